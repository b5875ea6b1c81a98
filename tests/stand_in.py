"""A stand-in for the Python that run.py starts commands with: it notes them down and writes what they would, in no time.

As a program: stand_in.py LOG COMMAND FLAG…. The environment tells what goes wrong: FAULTS="1:9" lets fold 1 of every model
die, FAULTS="predict.py m/:3" ends commands whose line has those words in this order with 3.
"""

import glob
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SPLITS = "train val test"


class Scripts:
    """The run scripts over the stand-in, and what they have asked it for."""

    def __init__(self, folder: pathlib.Path):
        self.folder, self.run_dir = folder, folder / "ein Lauf"
        self._python, self._log = folder / "python", folder / "log"
        self._python.write_text(f'#!/bin/sh\ncase "$1" in *run.py) exec "{sys.executable}" "$@";; esac\n'
                                # Without packages: in no time.
                                f'exec "{sys.executable}" -SE "{__file__}" "{self._log}" "$@"\n')
        self._python.chmod(0o755)
        (folder / "raw").mkdir()  # with what says that the demo is drawn
        (folder / "raw" / "train.json").write_text('{"info": {"description": "Fieldmark\'s demo: drawn butterflies"}}')

    def run(self, script: str, competition: str, *flags: str, code: int = 0, run_dir: str = "", **environment: str):
        """Runs a script, up to the submission where no --until says otherwise; `lines` are then the commands that it gave.
        Returns the process, which ended with `code`."""
        self._log.write_text("")
        if script == "run_inference.sh" and not any(one.startswith("--until") for one in flags):
            flags = (*flags, "--until=submission")
        arguments = [competition, str(self.folder / "raw"), run_dir or str(self.run_dir), *flags]
        self.done = subprocess.run(["bash", str(ROOT / script), *arguments], capture_output=True, text=True,
                                   timeout=120, check=False, env={**os.environ, "PYTHON": str(self._python), **environment})
        self.lines = self._log.read_text().splitlines()
        assert self.done.returncode == code, self.done.stderr + self.done.stdout
        return self.done

    def of(self, script: str) -> list[str]:
        return [line for line in self.lines if line.startswith(script)]

    def kinds(self) -> list[str]:
        return [line.split(".py")[0] for line in self.lines]


BUCKET = "gs://bucket/"  # lies in the folder that the environment names


def _local(path: str) -> str:
    return os.path.join(os.environ["BUCKET"], path.removeprefix(BUCKET)) if path.startswith(BUCKET) else path


def _write(path: str, content) -> None:
    """Text as it is, anything else as JSON."""
    path = _local(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(content if isinstance(content, str) else json.dumps(content))


def _read(path: str):
    with open(_local(path), encoding="utf-8") as file:
        return json.load(file)


def _values(arguments) -> dict[str, list[str]]:
    """The flags by name, those of flagfiles too."""
    values: dict[str, list[str]] = {}
    for argument in arguments:
        name, _, value = argument.lstrip("-").partition("=")
        if name == "flagfile":
            lines = pathlib.Path(value).read_text(encoding="utf-8").splitlines()
            for key, more in _values([line for line in lines if line.startswith("--")]).items():
                values.setdefault(key, []).extend(more)
        values.setdefault(name, []).append(value)
    return values


def _last(values, name, default=None):
    return values.get(name, [default])[-1]


def _predictions(out, split, fold, model_dir, values):
    for name, text in (("ids.txt", "a\n"), ("log_probabilities.npy", f"{split}{fold}")):
        _write(os.path.join(out, name), text)
    _write(os.path.join(out, "meta.json"), {
        "split": split, "fold": fold, "model_dir": model_dir, "size": 32, "average": None, "checkpoint": "c",
        "tta": _last(values, "tta") or _read(os.path.join(model_dir, "run.json"))["free"]["tta"],
        "out_of_fold": out.endswith("out_of_fold")})


def _create_tfrecords(values, faults):
    out, splits = _last(values, "out_dir"), os.environ.get("SPLITS", SPLITS).split()
    for name in (*splits, "examples.csv", "rejected.csv"):
        _write(os.path.join(out, name), "id,split\n")
    shard = {"fold": None, "first_row": 0, "records": int(os.environ.get("PICTURES", 1)), "bytes": 9, "sha256": "0",
             "set_aside": []}
    _write(os.path.join(out, "dataset.json"), {
        "format": 1, "competition": _last(values, "competition"), "record_kind": "fieldmark", "classes": [], "rejected": 0,
        "multi_label": "SEVERAL_LABELS" in os.environ, "shards": [{"file": one, "split": one, **shard} for one in splits],
        "folds": int(_last(values, "folds", 0)),
        "settings": {"random_seed": int(_last(values, "random_seed", 42)), "data_dir": _last(values, "data_dir")}})


def _multi_stage_train(values, faults):
    model_dir, asked = _last(values, "model_dir"), _last(values, "fold")
    count = _read(os.path.join(_last(values, "data_dir"), "dataset.json"))["folds"]
    folds = [None] if not asked else list(range(count)) if asked == "all" else [int(one) for one in asked.split(":")]
    same = {"train_split": _last(values, "train_split", "train"), "lr": _last(values, "lr")}
    run_file = os.path.join(model_dir, "run.json")
    if os.path.exists(_local(run_file)) and _read(run_file)["same"] != same:
        _fail("--model_dir holds another run", 2)
    free = {"folds": count, "stage_dirs": ["stage_1_all"], "tta": _last(values, "tta", "none")}
    _write(run_file, {"same": same, "free": free})
    stand = [fold for fold in folds if str(fold) not in faults]
    for fold in stand:
        for name in ("DONE", "best/checkpoint"):
            _write(os.path.join(model_dir, *([] if fold is None else [f"fold_{fold}"]), "stage_1_all", name), {"epochs": 1})
    if len(folds) > 1 and stand:
        _predictions(os.path.join(model_dir, "out_of_fold"), same["train_split"], stand, model_dir, {})
    sys.exit(3 if stand != folds else 0)


def _train_geo_prior(values, faults):
    for name in ("run.json", "DONE"):
        _write(os.path.join(_last(values, "model_dir"), name), {})


def _localize(values, faults):
    boxes = os.path.join(_last(values, "data_dir"), "boxes", _last(values, "name"))
    for path in (f"{boxes}.csv", f"{boxes}.json", _last(values, "contact_sheet")):
        _write(path, {})


def _predict(values, faults):
    model_dir, split = _last(values, "model_dir"), _last(values, "split")
    done = glob.glob(f"{_local(model_dir)}/fold_*/stage_1_all/DONE")
    folds = sorted(int(one.rpartition("fold_")[2].partition("/")[0]) for one in done)
    out = _last(values, "out", os.path.join(model_dir, "predictions", split))
    _predictions(out, split, folds or None, model_dir, values)


def _evaluate(values, faults):
    _write(_last(values, "out"), {
        "weights": dict.fromkeys(values["predictions"], 0.5), "member_temperatures": dict.fromkeys(values["predictions"], 0.75),
        "warnings": []})
    if "report" in values:
        _write(_last(values, "report"), "report")


def _make_submission(values, faults):
    _write(_last(values, "out"), "id,answer\n")


def _export(values, faults):
    for name in ("model.json", "saved_model.pb", "variables/variables.index"):
        _write(os.path.join(_last(values, "out"), name), " ".join(values["predictions"]))


def _fail(told: str, code: int) -> None:
    print(f"stand_in: {told}", file=sys.stderr)
    sys.exit(code)


def _main(log: str, script: str, *arguments: str) -> None:
    name = os.path.basename(script)
    line = " ".join([name, *arguments])
    with open(log, "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    faults = dict(one.rsplit(":", 1) for one in os.environ.get("FAULTS", "").split(",") if one)
    for words, code in faults.items():
        if all(word in line for word in words.split()) and not words.isdigit():
            _fail("it was to fail", int(code))
    globals()[f"_{name.removesuffix('.py')}"](_values(arguments), faults)


if __name__ == "__main__":
    _main(*sys.argv[1:])
