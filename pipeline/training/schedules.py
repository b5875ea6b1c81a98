"""Learning-rate schedules as pure functions of the step, so that they live inside the compiled step.

`plateau` is none: its rate is a variable of the optimizer, which patience.ReduceOnPlateau sets between epochs.
"""

import dataclasses
import math
from typing import Optional, Sequence, Union

import tensorflow as tf

from pipeline.errors import UserError, unknown
from pipeline.runs.run import epochs_to_steps
from pipeline.runs.stages import COSINE_WHOLE

KNOWN = ("cosine", "cosine:whole", "constant", "step:EPOCH:EPOCH", "triangular:RATIO", "triangular:epochs",
         "plateau:FACTOR:PATIENCE")
LOWEST = 0.01  # triangular: the rate it comes from and goes to, as a share of its peak


@dataclasses.dataclass(frozen=True)
class Schedule:
    """--lr_schedule, parsed."""

    kind: str                        # cosine, cosine:whole, constant, step, triangular, epoch_triangle or plateau
    epochs: tuple[float, ...] = ()   # step: after which the rate is multiplied
    ratio: float = 1.0               # triangular: all steps over those of the rise
    factor: float = 1.0              # plateau: what the rate is multiplied by
    patience: int = 0                # plateau: after so many validations without a better --monitor

    @property
    def takes_warmup(self) -> bool:
        """A triangle is one itself; and plateau's rate belongs to a callback, not to the step."""
        return self.kind not in ("triangular", "epoch_triangle", "plateau")


def parse(text: str) -> Schedule:
    """cosine, cosine:whole, constant, step:10:20, triangular:4, triangular:epochs or plateau:0.5:4.

    Raises UserError, for an unknown kind with the known.
    """
    kind, *arguments = text.split(":")
    if text in ("cosine", COSINE_WHOLE, "constant"):
        return Schedule(text)
    if kind not in _PARSERS:
        raise unknown("lr_schedule", text, KNOWN)
    try:
        schedule = _PARSERS[kind](arguments)
    except ValueError:
        schedule = None
    if schedule is None:
        raise UserError(f"lr_schedule={text}: write {_EXPECTED[kind]}")
    return schedule


def _parse_step(arguments: Sequence[str]) -> Optional[Schedule]:
    epochs = tuple(float(argument) for argument in arguments)
    rising = all(before < after for before, after in zip((0.0, *epochs), (*epochs, math.inf)))
    return Schedule("step", epochs=epochs) if epochs and rising else None


def _parse_triangular(arguments: Sequence[str]) -> Optional[Schedule]:
    if arguments == ["epochs"]:
        return Schedule("epoch_triangle")
    ratio, = (float(argument) for argument in arguments)
    return Schedule("triangular", ratio=ratio) if 1 < ratio < math.inf else None


def _parse_plateau(arguments: Sequence[str]) -> Optional[Schedule]:
    factor, patience = arguments
    plateau = Schedule("plateau", factor=float(factor), patience=int(patience))
    return plateau if 0 < plateau.factor < 1 and plateau.patience >= 1 else None


_PARSERS = {"step": _parse_step, "triangular": _parse_triangular, "plateau": _parse_plateau}
_EXPECTED = {
    "step": "step:EPOCH:EPOCH with rising numbers of epochs, e.g. step:10:20",
    "triangular": "triangular:RATIO with a ratio above 1, e.g. triangular:4, or triangular:epochs",
    "plateau": "plateau:FACTOR:PATIENCE with a factor between 0 and 1 and a patience of 1 or more validations, e.g. "
               "plateau:0.5:4",
}


class WarmupSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then constant, in steps, or cosine to 0 (Goyal et al. 2017; Loshchilov & Hutter 2017).

    With s steps done, W of warm-up and T in all: peak · (s + 1)/W while s < W (so that no step is spent at rate 0);
    then peak; or peak · factor^k, where k of the boundaries are ≤ s; or peak · (1 + cos(π · (s − W)/(T − W)))/2. As iNat
    2021's sixth place had it (cosine:whole) the cosine's length counts the warm-up and its first step is not spent at
    the peak: peak · (1 + cos(π · (s + 1 − W)/T))/2, which ends above 0.
    """

    def __init__(self, kind: str, peak: float, warmup_steps: int, total_steps: int, boundaries: Sequence[int] = (),
                 factor: float = 1.0):
        """kind: constant, step, to which `boundaries` (in steps) and `factor` belong, cosine, or cosine:whole."""
        self.kind = kind
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps
        self.boundaries = tuple(boundaries)
        self.factor = factor

    def __call__(self, step) -> tf.Tensor:
        """Rate (float32 scalar) of the step after `step` steps have been done."""
        step = tf.cast(step, tf.float32)
        after = self._after_warmup(step)
        if not self.warmup_steps:
            return after
        return tf.where(step < float(self.warmup_steps), self.peak * (step + 1.0) / float(self.warmup_steps), after)

    def _after_warmup(self, step: tf.Tensor) -> tf.Tensor:
        if self.kind == "constant":
            return tf.constant(self.peak, tf.float32)
        if self.kind == "step":
            passed = tf.cast(step >= tf.constant(self.boundaries, tf.float32), tf.float32)
            return self.peak * tf.pow(self.factor, tf.reduce_sum(passed))
        warmup = float(self.warmup_steps)
        if self.kind == COSINE_WHOLE:
            done, length = step + 1.0 - warmup, float(self.total_steps)
        else:
            done, length = step - warmup, max(self.total_steps - warmup, 1.0)
        progress = tf.clip_by_value(done / length, 0.0, 1.0)
        return self.peak * 0.5 * (1.0 + tf.cos(math.pi * progress))

    def get_config(self) -> dict:
        return {"kind": self.kind, "peak": self.peak, "warmup_steps": self.warmup_steps,
                "total_steps": self.total_steps, "boundaries": self.boundaries, "factor": self.factor}


class TriangularSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """One slanted triangle (Howard & Ruder 2018, "Universal language model fine-tuning for text classification").

    With T steps in all, of which C = ⌊T/ratio⌋ rise, and s done: peak · (L + (1 − L) · p), where L is LOWEST and p is s/C
    while s < C, then (T − s)/(T − C). So it comes from L · peak, is peak at C and would be L · peak again at T. (A stage of
    fewer steps than the ratio turns within its first step, at T/ratio.)
    """

    def __init__(self, peak: float, ratio: float, total_steps: int):
        self.peak = peak
        self.ratio = ratio
        self.total_steps = total_steps

    def __call__(self, step) -> tf.Tensor:
        """Rate (float32 scalar) of the step after `step` steps have been done."""
        step = tf.cast(step, tf.float32)
        rise = self.total_steps // self.ratio or self.total_steps / self.ratio
        height = tf.minimum(step / rise, (self.total_steps - step) / (self.total_steps - rise))
        return self.peak * (LOWEST + (1.0 - LOWEST) * tf.maximum(height, 0.0))

    def get_config(self) -> dict:
        return {"peak": self.peak, "ratio": self.ratio, "total_steps": self.total_steps}


class EpochTriangle(tf.keras.optimizers.schedules.LearningRateSchedule):
    """A triangle of whole epochs (iNat 2019, seventh place): up for half of them, then down, constant within each.

    The rate of epoch e = 0 … E − 1 is peak · (1 − |2 · (1 + e)/(E + 1) − 1|): the first and the last have 2/(E + 1) of it.
    """

    def __init__(self, peak: float, total_steps: int, steps_per_epoch: float):
        """A stage that ends within an epoch has that one too."""
        self.peak = peak
        self.total_steps = total_steps
        self.steps_per_epoch = steps_per_epoch
        self.epochs = max(math.ceil(round(total_steps / steps_per_epoch, 6)), 1)
        self._ends = [epochs_to_steps(epoch, steps_per_epoch) for epoch in range(1, self.epochs)]

    def __call__(self, step) -> tf.Tensor:
        """Rate (float32 scalar) of the step after `step` steps have been done."""
        step = tf.cast(step, tf.float32)
        epoch = tf.reduce_sum(tf.cast(step >= tf.constant(self._ends, tf.float32), tf.float32))
        return self.peak * (1.0 - tf.abs(2.0 * (1.0 + epoch) / (self.epochs + 1.0) - 1.0))

    def get_config(self) -> dict:
        return {"peak": self.peak, "total_steps": self.total_steps, "steps_per_epoch": self.steps_per_epoch}


class Scaled(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Another schedule times a variable, which changes where a run goes back to before it diverged."""

    def __init__(self, schedule: tf.keras.optimizers.schedules.LearningRateSchedule, factor: tf.Variable):
        self._schedule, self._factor = schedule, factor

    def __call__(self, step) -> tf.Tensor:
        """Rate (float32 scalar) of the step after `step` steps have been done."""
        return self._schedule(step) * self._factor

    def get_config(self) -> dict:
        return {"schedule": self._schedule.get_config(), "factor": float(self._factor.numpy())}


Rate = Union[tf.keras.optimizers.schedules.LearningRateSchedule, float]


def make_rate(text: str, peak: float, warmup_steps: int, total_steps: int, steps_per_epoch: float,
              factor: float) -> Rate:
    """What the optimizer is built with: a schedule, or for plateau the first rate.

    Args:
      text: as `parse` takes it.
      peak, warmup_steps, total_steps, factor: as WarmupSchedule's.
      steps_per_epoch: what turns epochs into steps, for `step` and triangular:epochs.
    """
    schedule = parse(text)
    if schedule.kind == "plateau":
        return peak
    if schedule.kind == "triangular":
        return TriangularSchedule(peak, schedule.ratio, total_steps)
    if schedule.kind == "epoch_triangle":
        return EpochTriangle(peak, total_steps, steps_per_epoch)
    boundaries = [epochs_to_steps(epoch, steps_per_epoch) for epoch in schedule.epochs]
    return WarmupSchedule(schedule.kind, peak, warmup_steps, total_steps, boundaries, factor)
