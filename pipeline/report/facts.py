"""What a page tells of where its figures come from: runs, what they have seen, pictures that were set aside, copies."""

import os
from typing import Any, Sequence

import pandas as pd

from pipeline import files
from pipeline.answers import predictions
from pipeline.records.dataset import Dataset
from pipeline.report.elements import Folded, Note, Section, Table
from pipeline.runs import record as run_record

_LISTED = 50  # files that were set aside, groups of copies


def of_runs(members: Sequence[predictions.Predictions], model_dirs: Sequence[str]) -> Section:
    """Predictions with what their models have seen; flags and versions of the runs."""
    told = pd.DataFrame([{"predictions": one.directory, "model": one.meta.get("model", ""), "fold": _shown(one.meta["fold"]),
                          "views": one.meta["tta"] or "", "has seen": _seen(one)} for one in members])
    return Section("Flags, versions, what was seen", [Table(told), *(
        Folded(f"flags and versions of {one}", _run(run_record.read(one))) for one in model_dirs)])


def _seen(one: predictions.Predictions) -> str:
    told = one.meta.get("seen")
    if not told:
        return "not told"
    how = ", each picture by the fold that held it out" if told.get("held_out_fold") is not None else ""
    return f"{' + '.join(told.get('splits', []))}{how}; {told['pictures']} of these pictures"


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _run(record: dict[str, Any]) -> list[Any]:
    same = record["same"]
    stages = pd.DataFrame({name: pd.Series(same["stages"][name]).map(_shown) for name in same["stage_order"]}).fillna("")
    others = {**{key: value for key, value in same.items() if key not in ("stages", "stage_order")},
              **record.get("versions", {}), "git": record.get("git", "")}
    return [Note("the stages, in order"), Table(stages.drop(index="name", errors="ignore"), index=True),
            Note("the run, and the versions that began it"),
            Table(pd.DataFrame({"flag": list(others), "value": [_shown(value) for value in others.values()]}))]


def of_data(data: Dataset, split: str) -> list[Section]:
    """What create_tfrecords.py set aside, and copies that it found; nothing where there is neither."""
    manifest, rejected = data.manifest, data.rejected(split)
    elements: list[Any] = []
    if len(rejected):
        counts = rejected["reason"].value_counts().rename_axis("reason").reset_index(name="pictures")
        elements += [Note(f"{len(rejected)} pictures of {split} were set aside and are not scored"), Table(counts),
                     Folded(f"the first {min(len(rejected), _LISTED)}", [Table(rejected[["id", "path", "reason"]].head(_LISTED))])]
    if manifest.duplicates:
        groups = pd.DataFrame({"the same picture in train": [", ".join(one) for one in manifest.duplicates[:_LISTED]]})
        kept = "each group in one fold" if not manifest.parted_copies else f"{manifest.parted_copies} have a copy in another fold"
        elements += [Note(f"{manifest.copies} train pictures show what another one does ({kept})"),
                     Folded(f"the first {len(groups)} groups", [Table(groups)])]
    elements += [Note(one) for one in manifest.notes]
    return [Section("Set aside, and copies", elements)] if elements else []


def that_exist(model_dirs: Sequence[str]) -> list[str]:
    """Those that have a run: predictions may outlive their model."""
    return [one for one in model_dirs if files.exists(os.path.join(one, run_record.RUN_FILE))]
