"""What stands on a base: how its map is pooled, and which head judges that. Without TensorFlow, so that flags and run.json
tell it early."""

from dataclasses import dataclass
from typing import Optional

MEAN, GEM = "mean", "gem"
POOLS = (MEAN, GEM)


@dataclass(frozen=True)
class ArcFace:
    """The head of --loss=arcface (Deng et al. 2019; sub-centres: Deng et al. 2020).

    Attributes:
      embedding_dim: units of the embedding, which alone tells how much alike two pictures are.
      scale: what cosines are multiplied by to be logits.
      subcentres: centres of each class, of which the nearest counts.
    """

    embedding_dim: int = 512
    scale: float = 30.0
    subcentres: int = 1


@dataclass(frozen=True)
class Top:
    """pool: one of POOLS; arcface: None where the head is a plain Dense."""

    pool: str = MEAN
    arcface: Optional[ArcFace] = None
