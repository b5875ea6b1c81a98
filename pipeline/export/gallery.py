"""--gallery: a folder for each individual that is added to an export, with its photos, made ready as records are."""

import dataclasses
import os
from typing import Callable, Iterator, Sequence

from pipeline import files
from pipeline.errors import UserError
from pipeline.export import photographs
from pipeline.pictures.bad import BadImage
from pipeline.pictures.prepare import Prepared
from pipeline.records.schema import ClassInfo, Manifest

Prepare = Callable[[bytes, int, int], Prepared]  # (bytes, max_side, short_side) → the JPEG of a record; raises BadImage


@dataclasses.dataclass(frozen=True)
class Gallery:
    """Individuals by name, sorted; of each its photos, upright RGB JPEGs, none twice."""

    names: tuple[str, ...]
    photos: tuple[tuple[bytes, ...], ...]

    @property
    def flat(self) -> list[tuple[int, bytes]]:
        """(position of the individual, JPEG) of every photo."""
        return [(position, one) for position, several in enumerate(self.photos) for one in several]

    @property
    def told(self) -> str:
        individuals, photos = len(self.names), len(self.flat)
        return f"{individuals} individual{'s' * (individuals > 1)} by {photos} photo{'s' * (photos > 1)}"

    def classes(self, first: int) -> tuple[ClassInfo, ...]:
        """The individuals as classes, the first of them with this index; train had nothing of them."""
        return tuple(ClassInfo(first + position, name, name, 0) for position, name in enumerate(self.names))


def read(folder: str, manifest: Manifest, prepare: Prepare) -> Gallery:
    """Raises UserError for a folder that is not made of folders of photos, for a photo that can't be read or stands for two
    individuals, and for a name that a class of the records has."""
    names = _names(folder)
    taken = {text for one in manifest.classes for text in (one.source_id, one.name)} | {manifest.unknown_answer}
    both = [name for name in names if name in taken]
    if both:
        raise UserError(f"--gallery: {os.path.join(folder, both[0])} has the name of a class that the model knows; a "
                        "gallery is for others")
    size = [manifest.settings.get(side, 0) for side in ("max_side", "short_side")]
    found, whose = {}, {}
    for name in names:
        found[name] = tuple(dict.fromkeys(_photos(os.path.join(folder, name), size, prepare)))
        other = next((whose[one] for one in found[name] if one in whose), None)
        if other:
            raise UserError(f"--gallery: {os.path.join(folder, name)} and {os.path.join(folder, other)} hold the same photo")
        whose.update(dict.fromkeys(found[name], name))
    return Gallery(tuple(names), tuple(found.values()))


def _names(folder: str) -> list[str]:
    if not os.path.isdir(folder):
        raise UserError(f"--gallery: {folder} is no folder{' of this machine' if files.is_remote(folder) else ''}")
    inside = sorted(one for one in os.listdir(folder) if not one.startswith("."))
    names = [one for one in inside if os.path.isdir(os.path.join(folder, one))]
    loose = [one for one in inside if one not in names and photographs.is_named_as_picture(one)]
    if loose:
        raise UserError(f"--gallery: {os.path.join(folder, loose[0])} is in no individual's folder; photos are "
                        f"{folder}/NAME/….jpg")
    odd = next((one for one in names if not one.isprintable()), None)
    if odd:
        raise UserError(f"--gallery: the folder {odd!r} of {folder} has a name that can't be printed")
    if not names:
        raise UserError(f"--gallery: {folder} has no folders; photos are {folder}/NAME/….jpg")
    return names


def _photos(folder: str, size: Sequence[int], prepare: Prepare) -> Iterator[bytes]:
    for path in photographs.find([folder]):
        with files.open_file(path, "rb") as file:
            encoded = file.read()
        try:
            yield prepare(encoded, *size).encoded
        except BadImage as error:
            raise UserError(f"--gallery: {path}: {error}") from None
