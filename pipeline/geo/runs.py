"""A run of train_geo_prior.py as plain data."""

import dataclasses
from typing import Any, Optional


@dataclasses.dataclass(frozen=True)
class GeoRun:
    """Everything that the training of a geo prior is made of, beside its records."""

    model_dir: str
    competition: str = ""
    data_dir: str = ""
    geo_loss: str = "presence"
    positive_weight: Optional[float] = None  # None: the loss' own
    photographers: bool = False
    photographer_loss: str = "paper"         # or solution
    date_input: bool = True
    embed_dim: int = 256
    batch_norm: str = "off"                  # on, or first: after the first Dense alone
    batch_size: int = 1024
    lr: float = 0.0005
    lr_decay: float = 0.98
    epochs: int = 30
    max_per_class: int = 100
    location_noise_m: float = 0.0
    date_noise_days: float = 0.0
    random_seed: int = 42
    jit: bool = False  # a part of the identity: XLA makes other random numbers of the same seeds
    steps_per_execution: int = 8

    def identity(self) -> dict[str, Any]:
        """What must not change between two starts in one model directory."""
        fields = dataclasses.asdict(self)
        for name in ("model_dir", "data_dir", "steps_per_execution"):
            del fields[name]
        for name in ("photographer_loss", "batch_norm"):  # runs from before there were these go on as they began
            if fields[name] == GeoRun.__dataclass_fields__[name].default:
                del fields[name]
        return fields
