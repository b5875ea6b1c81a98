"""model.json of an export: what is to be known of the model beside it. Free of TensorFlow and pandas."""

import dataclasses
import os
from typing import Any, Optional

from pipeline import files, json_types
from pipeline.errors import UserError
from pipeline.records.schema import ClassInfo

FILE = "model.json"  # written last, so that its presence says that the export is whole
GRAPH_FILE = "saved_model.pb"
CARD_FILE = "MODEL_CARD.md"
FORMAT_VERSION = 1
UNKNOWN = -1  # among the served class indices: none of the known


@dataclasses.dataclass(frozen=True)
class Description:
    """What an export tells of itself.

    Attributes:
      kind: of the task, as pipeline.tasks names it.
      exclusive: one class a picture.
      classes: by class index; what train had of each, and its taxonomy where that is known. A gallery's individuals come
        last.
      unknown_answer: the id and name of the answer for what is none of the known classes; empty: all are known.
      open_set: the rule by which that answer is ranked, as answers.open_set_rules reads it.
      threshold: where a picture has several labels, the least probability of an answer.
      answers: how many are served of each picture.
      place: whether a place changes the answers; date: whether a date does.
      max_side, short_side: pixels, by which records were prepared, and pictures are to be.
      members: a dict for each network: model, model_dir, fold, checkpoint, views, size, eval_resize, weight (of the blend).
      on_top: flags of what was put on top of them.
      seen: what the members have learnt from, as their predictions tell it.
      scores: of evaluate.py, where they were given.
      versions: of this program and of what it ran with.
      tflite: by file, how it agrees with this model.
      gallery: photos of each individual that was added by likeness, by name.
      recognized: [of its photos that have others of the same individual, those that are recognized by the others; how many
        have some]; empty without a gallery.
    """

    competition: str
    kind: str
    exclusive: bool
    classes: tuple[ClassInfo, ...]
    unknown_answer: str
    open_set: str
    threshold: Optional[float]
    answers: int
    place: bool
    date: bool
    max_side: int
    short_side: int
    license: str
    members: list[dict[str, Any]]
    on_top: dict[str, Any]
    seen: list[dict[str, Any]]
    scores: dict[str, Any]
    versions: dict[str, str]
    tflite: dict[str, Any] = dataclasses.field(default_factory=dict)
    gallery: dict[str, int] = dataclasses.field(default_factory=dict)
    recognized: list[int] = dataclasses.field(default_factory=list)
    format: int = FORMAT_VERSION

    @property
    def ids(self) -> list[str]:
        return [one.source_id for one in self.classes]

    def id_of(self, index: int) -> str:
        """Of a class index as it is served."""
        return self.unknown_answer if index == UNKNOWN else self.classes[index].source_id

    def name_of(self, index: int) -> str:
        return self.unknown_answer if index == UNKNOWN else self.classes[index].name


def write(directory: str, description: Description) -> None:
    files.write_json(os.path.join(directory, FILE), dataclasses.asdict(description))


def read(directory: str) -> Description:
    """Raises UserError where the folder holds no whole export, or one of another version."""
    path = os.path.join(directory, FILE)
    if not (files.exists(path) and files.exists(os.path.join(directory, GRAPH_FILE))):
        raise UserError(f"--model: {directory} is no export ({FILE} or {GRAPH_FILE} is missing); export.py makes one")
    fields = files.read_json(path)
    version = fields.get("format") if isinstance(fields, dict) else None
    if version != FORMAT_VERSION:
        raise UserError(f"--model: {path} has format {version!r}, this program reads {FORMAT_VERSION}")
    try:
        found = Description(**{**fields, "classes": tuple(ClassInfo(**one) for one in fields["classes"])})
        for one in (*found.classes, found):
            json_types.check(one)
    except (KeyError, TypeError) as error:
        raise UserError(f"--model: {path} was not written by export.py, or was edited: {error}") from None
    return found
