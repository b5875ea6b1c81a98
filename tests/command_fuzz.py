"""Mutated files and flags for the commands, and what is wrong with how a command ended on them."""

import json
import os
import pathlib
import random
import shutil
import subprocess
from typing import Any, Callable

import forking
import predicted_data
import raw_data
import tiny_records

_VALUES = (None, True, -1, 0, 10**30, 1.5, float("nan"), float("inf"), "", "x", "0", "../../../etc/passwd", "/etc/passwd",
           "a\x00b", "\ud800", "<script>alert(1)</script>", "é\n\r\u2028", "9" * 400, [], {}, [[]], [None], {"id": []}, "NaN",
           "2020-13-45")
_TEXTS = ("", "-1", "0", "1e400", "nan", "x" * 3000, "../..", "/", "é\u2028", "a=b,c", ":::", "name=", "1:2:3", "<b>", "%s%n",
          "0:x", "--", "\\", "*", "[", "/dev/null", "gs://", "none", "1,2", "9" * 30, "{}", "inf:inf", "half", "true")
_INSERTED = (b"\x00", b'"', b"\xff\xfe", b"\n\n", b",,,", b"[" * 5000, b"\xed\xa0\x80")
_FLAGS = {
    "create_tfrecords.py": "competition data_dir shard_mib max_side folds val_share columns table adopt_records random_seed "
                           "num_classes",
    "multi_stage_train.py": "stage lr_schedule fold keep_epochs groups randaugment pixel_mean weights eval_resize tta monitor "
                            "batch_size train_split num_classes boxes model skip_bad_records init_from loss rotate "
                            "virtual_replicas",
    "evaluate.py": "predictions blend threshold geo_prior geo_exponent prior_correction open_set",
    "make_submission.py": "predictions blend threshold geo_prior geo_exponent prior_correction"}
_LOG_LINES = ("I", "W", "E", "20")  # absl's and TensorFlow's own


def mutate_json(rng: random.Random, value: Any) -> Any:
    """A copy in which one value somewhere is another, is gone, or stands twice."""
    value = json.loads(json.dumps(value))
    here: Any = value
    while True:
        keys = list(here) if isinstance(here, dict) else list(range(len(here)))
        if not keys:
            return value
        key = rng.choice(keys)
        if isinstance(here[key], (dict, list)) and here[key] and rng.random() < 0.85:
            here = here[key]
            continue
        break
    kind = rng.random()
    if kind < 0.7:
        here[key] = rng.choice(_VALUES)
    elif kind < 0.85 or isinstance(here, dict):
        del here[key]
    else:
        here.append(here[key])
    return value


def mutate_bytes(rng: random.Random, content: bytes) -> bytes:
    """A copy that is cut, or has bytes changed, left out or put in."""
    kind, place = rng.randrange(5), rng.randrange(max(len(content), 1))
    if kind == 0:
        return content[:place]
    if kind == 1:
        return content[:place] + content[place + rng.randrange(1, 20):]
    if kind == 2:
        return content[:place] + rng.choice(_INSERTED) + content[place:]
    changed = bytearray(content)
    for _ in range(rng.randrange(1, 4)):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def mutate_file(rng: random.Random, path: pathlib.Path) -> None:
    """JSON is mutated as JSON most of the time, anything else as bytes."""
    content = path.read_bytes()
    if path.suffix == ".json" and rng.random() < 0.8:
        path.write_bytes(json.dumps(mutate_json(rng, json.loads(content))).encode("utf-8", "surrogatepass"))
    elif path.suffix == ".csv" and rng.random() < 0.6:
        lines = [line.split(",") for line in content.decode().splitlines()]
        line = rng.choice(lines)
        line[rng.randrange(len(line))] = str(rng.choice([*_VALUES, *_TEXTS]))
        path.write_bytes("\n".join(map(",".join, lines)).encode("utf-8", "surrogatepass"))
    else:
        path.write_bytes(mutate_bytes(rng, content))


class Commands:
    """Each is forked from a process that has done the imports; a `with` around them."""

    _IMPORTS = ("h5py", "scipy.sparse", "dataset_tools.build", "dataset_tools.verified_folder", "pipeline.prediction.predict",
                "pipeline.training.train", "pipeline.report.single_label", "pipeline.experiment.fold_runs")
    _ENVIRONMENT = {"CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "1"}

    def __enter__(self) -> "Commands":
        self._server = forking.Server(self._IMPORTS)
        return self

    def __exit__(self, *_) -> None:
        self._server.close()

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """As one types it: its script, or -m and a module, then arguments. Exit code None: it hung, and was killed."""
        try:
            return self._server.run(command, environment={**os.environ, **self._ENVIRONMENT}, timeout=120)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, None, "", "")


class Fuzz:
    """Whole files of each kind, made once under `folder`, and commands on mutated copies of them."""

    def __init__(self, folder: pathlib.Path, commands: "Commands", model: bool = True):
        self._folder, self._commands = folder, commands
        self._number = 0
        self._raw = tiny_records.write_raw(folder / "raw", train=6, val=3, test=2)
        self._table = folder / "table"
        for number in range(6):
            raw_data.write(self._table / f"{number}.jpg", raw_data.encode(raw_data.pixels(number)))
        rows = [f"{number}.jpg,{'ab'[number % 2]},train,{number}.5,10,2020-05-0{number + 1}" for number in range(6)]
        (self._table / "table.csv").write_text("\n".join(["path,label,split,latitude,longitude,date", *rows]) + "\n")
        self._must("create_tfrecords.py", "--competition=inat2021", f"--data_dir={self._raw}", f"--out_dir={folder}/records",
                   "--workers=1", "--folds=2")
        data = predicted_data.datasets.load(str(folder / "records"))
        predicted_data.write_predictions(folder / "p", data, predicted_data.random_logs(3))
        if model:
            self._must("multi_stage_train.py", f"--data_dir={folder}/records", f"--model_dir={folder}/model", *self.TINY,
                       "--stage=name=a,epochs=1,size=32,lr=0.01", "--max_steps=1")

    TINY = ("--model=kecam/EfficientNetV2Tiny", "--batch_size=2")

    def _must(self, *command: str) -> None:
        ended = self._commands.run(*command)
        assert ended.returncode == 0, ended.stderr

    def run(self, kind: str, rng: random.Random) -> list[str]:
        """What is wrong with how a command ended on something mutated of that kind."""
        self._number += 1
        here = self._folder / f"case_{self._number}"
        here.mkdir()
        wrong = self.KINDS[kind](self, rng, here)
        if wrong:
            wrong.append(f"kept in {here}")
        else:
            shutil.rmtree(here)
        return wrong

    def _copy(self, name: str, here: pathlib.Path) -> pathlib.Path:
        return pathlib.Path(shutil.copytree(self._folder / name, here / name))

    def _check(self, here: pathlib.Path, *command: str, made: str = "") -> list[str]:
        """Runs it; `made`: the file under `here` that tells of success alone."""
        ended = self._commands.run(*command)
        lines = [line for line in ended.stderr.splitlines() if line.strip() and not line.startswith(_LOG_LINES)]
        wrong = []
        if ended.returncode not in (0, 2, 3):
            wrong.append(f"exit code {ended.returncode}")
        if len(lines) != int(ended.returncode != 0) or "Traceback" in ended.stderr:
            wrong.append(f"told in {len(lines)} lines: {lines[-4:]}")
        if lines and len(lines[0]) > 5000:
            wrong.append(f"told in {len(lines[0])} characters")
        if made and (here / made).exists() != (ended.returncode == 0):
            wrong.append(f"{made} with exit code {ended.returncode}")
        left = [str(path) for path in here.rglob("*") if path.name.endswith(".tmp") or path.name == "in_use.json"]
        if left:
            wrong.append(f"left: {left}")
        return wrong and [" ".join(command), *wrong]

    def _raw_json(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        raw = self._copy("raw", here)
        mutate_file(rng, raw / rng.choice(["train.json", "val.json", "public_test.json"]))
        return self._check(here, "create_tfrecords.py", "--competition=inat2021", f"--data_dir={raw}",
                           f"--out_dir={here}/out", "--workers=1", made="out/dataset.json")

    def _raw_table(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        table = self._copy("table", here)
        mutate_file(rng, table / "table.csv")
        return self._check(here, "create_tfrecords.py", "--competition=table", f"--data_dir={table}",
                           f"--out_dir={here}/out", "--workers=1", made="out/dataset.json")

    def _records(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        records = self._copy("records", here)
        shard = rng.choice(sorted(records.glob("*.tfrecord-*")))
        shard.write_bytes(mutate_bytes(rng, shard.read_bytes()))
        return self._check(here, "-m", "dataset_tools.verify", str(records), "--workers=1") or self._check(
            here, "create_tfrecords.py", f"--adopt_records={records}/*.tfrecord-*", f"--out_dir={here}/out", "--workers=1",
            made="out/dataset.json")

    def _manifest(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        records = self._copy("records", here)
        mutate_file(rng, records / rng.choice(["dataset.json"] * 3 + ["examples.csv", "rejected.csv"]))
        return self._check(here, "-m", "dataset_tools.verify", str(records), "--workers=1") or self._check(
            here, "multi_stage_train.py", f"--data_dir={records}", f"--model_dir={here}/m", *self.TINY, "--dry_run",
            "--stage=name=a,epochs=1,size=32,lr=0.01") or self._check(
            here, "evaluate.py", f"--data_dir={records}", f"--predictions={self._folder}/p", f"--out={here}/s.json",
            made="s.json")

    def _predictions(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        folder = self._copy("p", here)
        mutate_file(rng, folder / rng.choice(["meta.json", "meta.json", "ids.txt", "log_probabilities.npy"]))
        flags = (f"--data_dir={self._folder}/records", f"--predictions={folder}")
        return self._check(here, "evaluate.py", *flags, f"--out={here}/s.json", made="s.json") or self._check(
            here, "make_submission.py", *flags, f"--out={here}/s.csv", made="s.csv")

    def _flags(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        script = rng.choice(list(_FLAGS))
        names = _FLAGS[script].split()
        predicted = [f"--data_dir={self._folder}/records", f"--predictions={self._folder}/p"]
        usual = {
            "create_tfrecords.py": ["--competition=inat2021", f"--data_dir={self._raw}", f"--out_dir={here}/out", "--workers=1"],
            "multi_stage_train.py": [f"--data_dir={self._folder}/records", f"--model_dir={here}/m", *self.TINY, "--dry_run",
                                     "--stage=name=a,epochs=1,size=32,lr=0.01"],
            "evaluate.py": [*predicted, f"--out={here}/s.json"], "make_submission.py": [*predicted, f"--out={here}/s.csv"]}
        drawn = [f"--{name}={rng.choice(_TEXTS)}" for name in rng.sample(names, rng.choice([1, 1, 2]))]
        return self._check(here, script, *usual[script], *(one.replace("\x00", "") for one in drawn))

    def _model(self, rng: random.Random, here: pathlib.Path) -> list[str]:
        model = self._copy("model", here)
        stage = model / "stage_1_a"
        path = rng.choice([model / "run.json", stage / "DONE", *(stage / "best").iterdir(), *(stage / "last").iterdir()])
        if path.name == "DONE":
            path.write_bytes(mutate_bytes(rng, path.read_bytes()))
        else:
            mutate_file(rng, path)
        return self._check(here, "predict.py", f"--data_dir={self._folder}/records", f"--model_dir={model}", "--split=val",
                           f"--out={here}/out", made="out/meta.json")

    KINDS: dict[str, Callable] = {"raw JSON": _raw_json, "raw table": _raw_table, "records": _records, "manifest": _manifest,
                                  "predictions": _predictions, "flags": _flags, "model": _model}
