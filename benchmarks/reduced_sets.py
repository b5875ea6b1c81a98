"""Small sets made from competitions: so many pictures a class of their train, as tables of pictures; and rows of results on disk."""

import collections
import io
import os
import subprocess
import sys
from typing import Any, Collection, Optional, Sequence

from absl import flags
import numpy as np

from pipeline import command, files
from pipeline.errors import UserError

FLAGS = flags.FLAGS
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PICTURES = "pictures"


def define() -> None:
    """Adds the flags of what the sets are made from."""
    flags.DEFINE_multi_string("data_dir", [], "COMPETITION:FOLDER, e.g. inat2019:~/inat2019; repeated.")
    flags.DEFINE_list("sizes", ["20", "all"], "Pictures a class: numbers, or all.")


def find() -> dict[str, str]:
    """Folder by competition. Raises UserError."""
    sets = {}
    for given in FLAGS.data_dir:
        name, colon, folder = given.partition(":")
        if not colon or not folder or name in sets:
            raise UserError(f"--data_dir={given}: write COMPETITION:FOLDER, each competition once")
        sets[name] = os.path.expanduser(folder)
    for size in FLAGS.sizes:
        if size != "all" and not (size.isdigit() and int(size) > 1):
            raise UserError(f"--sizes={size}: write numbers of pictures a class, from 2 up, or all")
    return sets


def known_of(flag: str, given: Sequence[str], known: Collection[str]) -> list[str]:
    """The names that a flag gives, or all known ones where it gives none. Raises UserError."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise UserError(f"--{flag}: unknown {unknown[0]!r}; known: {', '.join(known)}")
    return list(given or known)


def draw(labels: Sequence[Sequence[int]], count: Optional[int], seed: int) -> np.ndarray:
    """Positions, ascending, of a random choice in which each class has `count` pictures, or all that it has (with several
    labels a picture more, where another label wants the picture); None: all."""
    if count is None:
        return np.flatnonzero([len(one) > 0 for one in labels])
    taken: collections.Counter = collections.Counter()
    chosen = []
    for position in np.random.default_rng(seed).permutation(len(labels)).tolist():
        if any(taken[label] < count for label in labels[position]):
            taken.update(labels[position])
            chosen.append(position)
    return np.array(sorted(chosen), np.int64)


def table_path(out_dir: str, size: str, seed: int) -> str:
    return os.path.join(out_dir, size, f"table_{seed}.csv")


def prepare(name: str, folder: str, out_dir: str, seeds: Sequence[int]) -> None:
    """OUT_DIR/pictures, the pictures of a competition's train, and for each size and seed a table of some of them, where they
    do not stand."""
    wanted = [(size, seed) for size in FLAGS.sizes for seed in seeds]
    if all(files.exists(table_path(out_dir, *one)) for one in wanted):
        return
    whole = os.path.join(out_dir, "records")
    if run("create_tfrecords.py", f"--competition={name}", f"--data_dir={folder}", f"--out_dir={whole}"):
        sys.exit(command.WORK_EXIT_CODE)
    examples, labels_column = _unpack(whole, os.path.join(out_dir, PICTURES))
    for size, seed in wanted:
        chosen = examples.iloc[draw(list(examples["labels"]), None if size == "all" else int(size), seed)]
        table = chosen.assign(**{labels_column: ["|".join(f"c{label:05d}" for label in one) for one in chosen["labels"]]})
        files.make_dirs(os.path.join(out_dir, size))
        files.write_whole(table_path(out_dir, size, seed), table[["path", labels_column]].to_csv(index=False))


def _unpack(records: str, folder: str):
    """Writes the pictures of train as files; (its examples with the column path, the name of a table's column of labels)."""
    import tensorflow as tf
    from pipeline.records import dataset, input as inputs

    data = dataset.load(records)
    part = data.part("train")
    files.make_dirs(folder)
    for one in inputs.examples(part).as_numpy_iterator():
        files.write_whole(os.path.join(folder, f"{one['row']}.jpg"), one["encoded"])
    tf.keras.backend.clear_session()
    examples = part.examples()
    return examples.assign(path=[f"{row}.jpg" for row in examples["row"]]), "label" if data.task.exclusive else "labels"


def run(script: str, *given: str) -> int:
    """One of the commands; its exit code. Ends this one where it was a mistake in the flags, or interrupted."""
    code = subprocess.run([sys.executable, os.path.join(ROOT, script), *given], cwd=ROOT, check=False).returncode
    if code in (command.USAGE_EXIT_CODE, command.INTERRUPTED_EXIT_CODE, command.PREEMPTED_EXIT_CODE):
        sys.exit(code)
    return code


def must_run(script: str, *given: str) -> None:
    """As `run`; ends this one with its exit code where it fails."""
    code = run(script, *given)
    if code:
        sys.exit(code)


def interval(values) -> tuple[float, float]:
    """Student's 95 % interval of the mean of a Series; of one value alone not a number."""
    from scipy import stats

    half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values) if len(values) > 1 else float("nan")
    return values.mean() - half, values.mean() + half


def results(path: str, columns: Sequence[str]):
    """A DataFrame of the rows that stand; what is empty is not a number where the column is of numbers."""
    import pandas as pd

    content = files.read_if_there(path)
    if content is None:
        return pd.DataFrame(columns=columns)
    texts = ["set", "size", "candidate", "metric", "problem"]
    return pd.read_csv(io.BytesIO(content), dtype=dict.fromkeys(texts, str), keep_default_na=False,
                       na_values={name: [""] for name in columns if name not in texts})


def note(path: str, columns: Sequence[str], row: dict[str, Any]) -> None:
    """Adds a row."""
    import pandas as pd

    before = results(path, columns).to_dict("records")
    files.write_whole(path, pd.DataFrame([*before, row])[list(columns)].to_csv(index=False))
