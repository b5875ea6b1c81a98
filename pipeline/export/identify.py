"""Pictures through an export: prepared as records are, in batches, each with the place and the day that are known of it."""

import dataclasses
import datetime
import sys
from typing import Callable, Iterator, Optional, Sequence

import numpy as np

from pipeline import command, files
from pipeline.errors import UserError, WorkError
from pipeline.export import photographs, results
from pipeline.export.photographs import Where
from pipeline.export.results import Found
from pipeline.export.roll_up import RollUp
from pipeline.export.served import Served
from pipeline.pictures.bad import BadImage
from pipeline.pictures.prepare import Prepared
from pipeline.progress import progress


@dataclasses.dataclass(frozen=True)
class Request:
    """What identify.py was asked for."""

    model: str
    paths: Sequence[str]
    where: Where = Where()         # of all pictures; wins over theirs
    ignore_exif: bool = False
    rank: Optional[str] = None
    least: float = 0.8             # probability of a rank's answer
    json: Optional[str] = None     # files, or results.STDOUT
    csv: Optional[str] = None
    megadetector: Optional[str] = None
    batch_size: int = 16

    @property
    def outputs(self) -> list[str]:
        return [one for one in (self.json, self.csv, self.megadetector) if one]


@dataclasses.dataclass(frozen=True)
class Ways:
    """How records are made, which the caller brings from where they are: so that pictures and dates can't be read otherwise.

    Attributes:
      prepare: (bytes, max_side, short_side) → the JPEG of a record; raises BadImage.
      fraction_of_year: of a day.
    """

    prepare: Callable[[bytes, int, int], Prepared]
    fraction_of_year: Callable[[datetime.date], float]


def run(request: Request, ways: Callable[[], Ways]) -> None:
    """Identifies all pictures, and prints or writes what was found.

    Raises UserError for what the user can mend, WorkError where no picture can be read. `ways` is called after the mistakes
    that don't need TensorFlow.
    """
    if request.outputs.count(results.STDOUT) > 1:
        raise UserError("only one of --json, --csv and --megadetector can be written to stdout (-)")
    paths = photographs.find(request.paths)
    served = Served(request.model)
    roll_up = RollUp(served.told, request.rank, request.least) if request.rank else None
    if request.where != Where() and not served.told.place:
        print("note: this model takes neither place nor date; its answers are of the pictures alone", file=sys.stderr)
    command.begin_work()
    found = []
    with progress(len(paths), "identify", "pictures") as bar:
        for one in _identify(paths, request, served, roll_up, ways()):
            found.append(one)
            bar.update(1)
            _tell(one, served, request)
    _write(found, served, request)
    unread = sum(bool(one.error) for one in found)
    if unread == len(found):
        raise WorkError(f"none of {len(found)} pictures can be read")
    if unread:
        print(f"{unread} of {len(found)} pictures can't be read", file=sys.stderr)


def _tell(one: Found, served: Served, request: Request) -> None:
    if one.error:
        print(f"{one.path}: {one.error}", file=sys.stderr)
    elif not request.outputs:
        sys.stdout.write(results.as_text(one, served.told, bool(request.rank)))


def _identify(paths: Sequence[str], request: Request, served: Served, roll_up: Optional[RollUp],
              ways: Ways) -> Iterator[Found]:
    """What is found of each picture, in order."""
    for start in range(0, len(paths), request.batch_size):
        read = [_read(path, request, served, ways) for path in paths[start:start + request.batch_size]]
        whole = [(one, jpeg) for one, jpeg in read if jpeg is not None]
        places = np.array([_numbers(one.where, ways) for one, _ in whole], np.float32).reshape(-1, 3)
        answers = iter(served.answer([jpeg for _, jpeg in whole], places) if whole else ())
        for one, jpeg in read:
            if jpeg is None:
                yield one
                continue
            answer, probabilities = next(answers)
            yield dataclasses.replace(one, answers=answer, taxon=roll_up.of(probabilities) if roll_up else None)


def _read(path: str, request: Request, served: Served, ways: Ways) -> tuple[Found, Optional[bytes]]:
    """(the picture without answers; its JPEG, None where it can't be read)."""
    try:
        with files.open_file(path, "rb") as file:
            encoded = file.read()
        prepared = ways.prepare(encoded, served.told.max_side, served.told.short_side)
    except BadImage as error:
        return Found(path, error=str(error)), None
    except OSError as error:
        return Found(path, error=error.strerror or str(error)), None
    where = request.where if request.ignore_exif else request.where.over(photographs.exif(encoded))
    return Found(path, where), prepared.encoded


def _numbers(where: Where, ways: Ways) -> tuple[float, float, float]:
    """Latitude, longitude, date as the fraction of the year; NaN where unknown."""
    date = np.nan if where.date is None else ways.fraction_of_year(where.date)
    return (where.latitude, where.longitude, date) if where.has_place else (np.nan, np.nan, date)


def _write(found: Sequence[Found], served: Served, request: Request) -> None:
    told = served.told
    if request.json:
        results.write(request.json, results.as_json(found, told, request.model))
    if request.csv:
        results.write(request.csv, results.as_csv(found, told))
    if request.megadetector:
        relative = photographs.relative_to_all([one.path for one in found], request.paths)
        results.write(request.megadetector, results.as_megadetector(found, relative, told, request.model,
                                                                    bool(request.rank)))
