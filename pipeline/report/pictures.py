"""Pictures of a split for a page: small, as data URIs, with or without what a network looks at."""

import dataclasses
import io
from typing import Any, Optional, Sequence

import numpy as np
from PIL import Image

from pipeline import files
from pipeline.records.dataset import Dataset
from pipeline.report import figures

SIDE = 176      # pixels, the longer one
_QUALITY = 80


@dataclasses.dataclass(frozen=True)
class Pictures:
    """Parsed records of some pictures by id; empty where the shards are not at hand, for which `reason` says why."""

    by_id: dict[str, dict[str, Any]]
    reason: str = ""

    def uri(self, one: str, seen: Optional[np.ndarray] = None) -> str:
        """A picture as a data URI. `seen`: float [n, n] over the whole picture, laid over it as warmth."""
        image = Image.open(io.BytesIO(self.by_id[one]["encoded"])).convert("RGB")
        image.thumbnail((SIDE, SIDE))
        if seen is not None:
            image = _under_warmth(image, seen)
        content = io.BytesIO()
        image.save(content, "JPEG", quality=_QUALITY)
        return figures.data_uri(content.getvalue(), "jpeg")


def read(data: Dataset, split: str, ids: Sequence[str]) -> Pictures:
    """The records of these pictures of a split."""
    missing = next((path for path in data.part(split).paths if not files.exists(path)), None)
    if missing:  # scores need no shards, and they may lie elsewhere by now
        return Pictures({}, f"no pictures are shown: the shard {missing} is not there")
    import tensorflow as tf  # late: without pictures none is needed

    from pipeline.records import lookup

    examples = data.examples(split).set_index("id")["row"]
    id_of_row = {int(examples[one]): one for one in set(ids)}
    try:
        found = lookup.examples_at(data.part(split), list(id_of_row))
    except tf.errors.OpError as error:
        return Pictures({}, f"no pictures are shown: a shard of {split} can't be read ({error.message.splitlines()[0]}); "
                        f"python -m dataset_tools.verify {data.directory} tells more")
    return Pictures({id_of_row[row]: one for row, one in found.items()})


def _under_warmth(image: Image.Image, seen: np.ndarray) -> Image.Image:
    """The picture under a heat map: bright where the network found what speaks for its answer, dim where it did not."""
    import matplotlib

    low, high = np.percentile(seen, (5, 99))
    level = np.clip((seen - low) / max(high - low, 1e-6), 0, 1).astype(np.float32)
    level = np.asarray(Image.fromarray(level).resize(image.size, Image.Resampling.BILINEAR))
    warm = matplotlib.colormaps["inferno"](level)[..., :3] * 255
    share = 0.15 + 0.45 * level[..., np.newaxis]
    return Image.fromarray(np.uint8((1 - share) * np.asarray(image, np.float32) + share * warm))
