"""--stage lines and the training flags, resolved into one plain record per stage."""

import dataclasses
import math
from typing import Any, Callable, Mapping, Optional, Sequence

from pipeline.errors import UserError, unknown
from pipeline.models.trained_layers import PROBE, parse_train
from pipeline.tasks import registry as tasks

# The flags of multi_stage_train.py that may stand inside a --stage line too.
STAGE_FLAGS = ("batch_size", "augment", "min_crop", "crop_law", "antialias", "resize_engine", "rotate", "grid_mask",
               "randaugment", "randaugment_engine", "eval_resize", "place_drop", "freeze_place", "label_smoothing",
               "optimizer", "momentum", "nesterov", "weight_decay", "l2", "decay_all", "clip_norm", "lr_schedule", "lr_factor",
               "warmup_epochs", "scale_lr", "lr_batch", "groups", "layer_decay", "ema", "accumulate", "monitor", "keep",
               "early_stop", "validate_every", "min_steps", "keep_epochs", "class_balance", "logit_adjust", "loss", "focal_alpha",
               "focal_gamma", "arcface_margin", "mixup", "mixup_draw", "cutmix", "random_erasing", "jitter", "pca_noise",
               "augment_on")

# What a stage of train=probe may say: nothing else means anything where no step is taken.
PROBE_KEYS = ("name", "size", "train", "batch_size", "eval_resize", "antialias")

COSINE_WHOLE = "cosine:whole"  # of lr_schedule


@dataclasses.dataclass(frozen=True)
class Stage:
    """All that one training stage does, with nothing left to look up."""

    name: str
    epochs: float
    size: int            # pixels, height = width
    lr: float            # before scale_lr; with groups, of the last one, which has the head
    lower_lrs: tuple[float, ...]  # of the groups before it; empty: all have lr
    train: str           # probe, head, all, last:N or from:LAYER
    batch_size: int      # global
    augment: str
    min_crop: float      # share of the picture's area
    crop_law: str        # area or height
    antialias: bool
    resize_engine: str   # fast or reference
    randaugment: str     # N:M[:OPTIONS] or empty
    randaugment_engine: str  # fast or reference
    eval_resize: str
    place_drop: float    # probability
    freeze_place: bool
    rotate: float        # degrees, at most; 0: off
    grid_mask: float     # probability of each cell; 0: off
    label_smoothing: float
    optimizer: str
    momentum: float
    nesterov: bool
    weight_decay: float  # decoupled
    l2: float            # in the gradient
    decay_all: bool      # BatchNorm and biases too
    clip_norm: float
    lr_schedule: str
    lr_factor: float     # of lr_schedule=step
    warmup_epochs: float
    scale_lr: bool
    lr_batch: int
    groups: str          # LAYER:LAYER or empty
    layer_decay: float   # 1: off
    ema: float           # 0: off
    accumulate: int      # micro-batches a step
    monitor: Optional[str]  # None: as loss
    keep: str            # best or last
    early_stop: int      # validations; 0: off
    validate_every: float  # epochs
    min_steps: int       # 0: off
    keep_epochs: str     # 18:21:24 or empty
    class_balance: str   # none, sqrt or full
    logit_adjust: float  # 0: off
    loss: Optional[str]     # None: the task's own, until the data is known
    focal_alpha: float
    focal_gamma: float
    arcface_margin: float  # radians
    mixup: float         # alpha; 0: off
    mixup_draw: str      # batch or picture
    cutmix: float
    random_erasing: float  # probability
    jitter: float        # of brightness, contrast and saturation; 0: off
    pca_noise: float     # standard deviation; 0: off
    augment_on: str      # host or device

    @property
    def peak_lr(self) -> float:
        """The rate after warm-up: × batch/lr_batch where scale_lr asks for it (Goyal et al. 2017, with 256)."""
        return self.lr * self.batch_size / self.lr_batch if self.scale_lr else self.lr

    @property
    def is_probe(self) -> bool:
        """Whether its head is fitted to features, and no step is taken."""
        return self.train == PROBE


def _positive(text: str) -> int:
    value = int(text)
    if value <= 0:
        raise ValueError("must be positive")
    return value


def _from_zero(text: str) -> float:
    value = float(text)
    if not 0 <= value < math.inf:
        raise ValueError("must be a number from 0 up")
    return value


def _rates(text: str) -> tuple[float, ...]:
    rates = tuple(_from_zero(part) for part in text.split(":"))
    if len(rates) > 1 and rates[-1] == 0:
        raise ValueError("the last rate, of the group with the head, must be above 0")
    return rates


_OWN_KEYS: dict[str, Callable[[str], Any]] = {
    "name": str, "epochs": _from_zero, "size": _positive, "lr": _rates, "train": str,
}
_REQUIRED = ("name", "epochs", "size", "lr")


def _split_line(line: str) -> dict[str, str]:
    pairs = {}
    for part in line.split(","):
        key, equals, value = part.partition("=")
        key = key.strip()
        if not equals:
            raise UserError(f"--stage={line}: {part!r} is not key=value")
        if key not in _OWN_KEYS and key not in STAGE_FLAGS:
            raise unknown(f"stage key in --stage={line}:", key, [*_OWN_KEYS, *STAGE_FLAGS])
        if key in pairs:
            raise UserError(f"--stage={line}: {key} is given twice")
        pairs[key] = value.strip()
    is_probe = pairs.get("train") == PROBE
    meaningless = [key for key, value in pairs.items() if key not in PROBE_KEYS and (key, value) != ("epochs", "0")]
    if is_probe and meaningless:
        raise UserError(f"--stage={line}: {', '.join(meaningless)} means nothing with train={PROBE}, which takes no steps; "
                        f"it takes {', '.join(PROBE_KEYS)}")
    missing = [key for key in _REQUIRED if not pairs.get(key) and not (is_probe and key in ("epochs", "lr"))]
    if missing:
        raise UserError(f"--stage={line}: {', '.join(missing)} missing")
    return pairs


def _check_name(line: str, name: str) -> None:
    if not name.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"--stage={line}: the name becomes a folder's; use letters, digits, - and _")


def _check_known(line: str, flag: str, name: Optional[str], known: Sequence[str]) -> None:
    """Here and not by the flag's own parser, as the kinds of tasks say what there is."""
    if name is not None and name not in known:
        raise unknown(f"--{flag} (or {flag}= in --stage={line})", name, known)


def parse_epochs(flag: str, text: str) -> tuple[float, ...]:
    """The numbers of epochs in 18:21:24, or none in an empty text, in order; raises UserError naming `flag`."""
    try:
        numbers = sorted({float(part) for part in text.split(":")}) if text else []
    except ValueError:
        numbers = [math.nan]
    if not all(0 < number < math.inf for number in numbers):
        raise UserError(f"{flag}={text}: write numbers of epochs, e.g. 18:21:24")
    return tuple(numbers)


def parse(lines: Sequence[str], defaults: Mapping[str, Any], parsers: Mapping[str, Callable[[str], Any]],
          untouched: Mapping[str, Any]) -> list[Stage]:
    """Resolves the --stage lines in order; one of the same name takes the earlier one's place.

    Args:
      lines: texts of --stage.
      defaults: the value of every flag in STAGE_FLAGS.
      parsers: for every flag in STAGE_FLAGS, text to value, raising ValueError.
      untouched: the value of every flag in STAGE_FLAGS where nobody gave it. A probe's stage has these where the flag means
        nothing to it, so that another rate makes no other run of it.

    Raises UserError for an unknown key, a value that doesn't parse, or no stage that trains at all.
    """
    stages: dict[str, Stage] = {}
    for line in lines:
        pairs = _split_line(line)
        values = {"train": "all", **{name: defaults[name] for name in STAGE_FLAGS}}
        if pairs.get("train") == PROBE:
            values |= {name: untouched[name] for name in STAGE_FLAGS if name not in PROBE_KEYS}
            values |= {"epochs": 1.0, "lr": (0.0,)}
        for key, text in pairs.items():
            try:
                values[key] = _OWN_KEYS.get(key, parsers.get(key))(text)
            except ValueError as error:
                raise UserError(f"--stage={line}: {key}={text}: {error}") from None
        _check_name(line, values["name"])
        parse_train(values["train"])
        parse_epochs("keep_epochs", values["keep_epochs"])
        _check_known(line, "loss", values["loss"], tasks.losses())
        _check_known(line, "monitor", values["monitor"], tasks.monitors())
        *values["lower_lrs"], values["lr"] = values["lr"]
        values["lower_lrs"] = tuple(values["lower_lrs"])
        stages[values["name"]] = Stage(**values)
    trained = [stage for stage in stages.values() if stage.epochs > 0]  # 0 epochs skip a stage
    if not trained:
        raise UserError("no --stage with epochs above 0; e.g. --stage=name=all,epochs=20,size=300,lr=0.1,train=all")
    return trained
