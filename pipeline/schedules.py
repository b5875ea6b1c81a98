"""Learning-rate schedules as pure functions of the step, so that they live inside the compiled step.

`plateau` is none: its rate is a variable of the optimizer, which patience.ReduceOnPlateau sets between epochs.
"""

import dataclasses
import math
from typing import Union

import tensorflow as tf

from pipeline.errors import UserError, unknown

KNOWN = ("cosine", "constant", "plateau:FACTOR:PATIENCE")


@dataclasses.dataclass(frozen=True)
class Schedule:
    """--lr_schedule, parsed."""

    kind: str            # cosine, constant or plateau
    factor: float = 1.0  # plateau: what the rate is multiplied by
    patience: int = 0    # plateau: after so many epochs without a better --monitor


def parse(text: str) -> Schedule:
    """cosine, constant or plateau:0.5:4; raises UserError, for an unknown kind with the known ones."""
    kind, *arguments = text.split(":")
    if kind in ("cosine", "constant") and not arguments:
        return Schedule(kind)
    if kind != "plateau":
        raise unknown("lr_schedule", text, KNOWN)
    try:
        factor, patience = float(arguments[0]), int(arguments[1])
    except (IndexError, ValueError):
        factor, patience = 0.0, 0
    if len(arguments) != 2 or not 0 < factor < 1 or patience < 1:
        raise UserError(f"lr_schedule={text}: write plateau:FACTOR:PATIENCE with a factor between 0 and 1 and a "
                        "patience of 1 or more epochs, e.g. plateau:0.5:4")
    return Schedule(kind, factor, patience)


class WarmupSchedule(tf.keras.optimizers.schedules.LearningRateSchedule):
    """Linear warm-up, then constant or cosine to 0 (Goyal et al. 2017; Loshchilov & Hutter 2017).

    With s steps done, W of warm-up and T in all: peak · (s + 1)/W while s < W (so that no step is spent at rate 0),
    then peak · (1 + cos(π · (s − W)/(T − W)))/2, or peak.
    """

    def __init__(self, kind: str, peak: float, warmup_steps: int, total_steps: int):
        self.kind = kind
        self.peak = peak
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step) -> tf.Tensor:
        """Rate (float32 scalar) of the step after `step` steps have been done."""
        step = tf.cast(step, tf.float32)
        warmup = float(self.warmup_steps)
        if self.kind == "constant":
            after = tf.constant(self.peak, tf.float32)
        else:
            progress = tf.clip_by_value((step - warmup) / max(self.total_steps - warmup, 1.0), 0.0, 1.0)
            after = self.peak * 0.5 * (1.0 + tf.cos(math.pi * progress))
        if not self.warmup_steps:
            return after
        return tf.where(step < warmup, self.peak * (step + 1.0) / warmup, after)

    def get_config(self) -> dict:
        return {"kind": self.kind, "peak": self.peak, "warmup_steps": self.warmup_steps,
                "total_steps": self.total_steps}


def make_rate(text: str, peak: float, warmup_steps: int, total_steps: int) -> Union[WarmupSchedule, float]:
    """What the optimizer is built with: a schedule, or for plateau the first rate. Arguments as WarmupSchedule's."""
    kind = parse(text).kind
    return peak if kind == "plateau" else WarmupSchedule(kind, peak, warmup_steps, total_steps)
