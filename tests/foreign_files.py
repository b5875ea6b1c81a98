"""Predictions of ours written to files as other programs write theirs, rows and classes in another order."""

import numpy as np
from scipy import sparse

from pipeline.answers import predictions


def as_arrays(folder, seed=1):
    """(ids, class ids, log-probabilities) of predictions of ours, rows and classes in another order."""
    one, rng = predictions.Predictions(str(folder)), np.random.default_rng(seed)
    rows, columns = rng.permutation(len(one.ids)), rng.permutation(len(one.class_ids))
    logs = np.ascontiguousarray(one.rows(np.arange(len(one.ids)))[rows][:, columns])
    return np.array(one.ids)[rows], np.array(one.class_ids)[columns], logs


def write_npz(path, ids, class_ids, logs, kind="log_probabilities", save=np.savez):
    values = {"log_probabilities": logs, "probabilities": np.exp(logs.astype(np.float64)), "logits": logs * 1.0 + 3}[kind]
    save(path, ids=ids, class_ids=class_ids, **{kind: values})
    return str(path)


def write_npy(path, ids, class_ids, logs):
    """With its names in text files beside it."""
    np.save(path, np.exp(logs.astype(np.float64)) if "_log" not in path.stem else logs)
    for name, names in (("ids", ids), ("class_ids", class_ids)):
        path.with_name(f"{path.stem}_{name}.txt").write_text("".join(f"{one}\n" for one in names))
    return str(path)


WAYS = {
    "npz": lambda folder, *arrays: write_npz(folder / "other.npz", *arrays),
    "npz of integers": lambda folder, ids, classes, logs: write_npz(folder / "other.npz", ids, classes.astype(int), logs),
    "npz, compressed": lambda folder, *arrays: write_npz(folder / "other.npz", *arrays, save=np.savez_compressed),
    "npz, float16": lambda folder, *arrays: write_npz(folder / "other.npz", *arrays[:2], arrays[2].astype(np.float16)),
    "npz of probabilities": lambda folder, *arrays: write_npz(folder / "other.npz", *arrays, "probabilities"),
    "npz of logits": lambda folder, *arrays: write_npz(folder / "other.npz", *arrays, "logits"),
    "npy of probabilities": lambda folder, *arrays: write_npy(folder / "other.npy", *arrays),
    "npy of logs": lambda folder, *arrays: write_npy(folder / "other_log_probabilities.npy", *arrays),
    "npy of logits": lambda folder, ids, class_ids, logs: write_npy(folder / "other_logits.npy", ids, class_ids, logs - 7),
}


def of_scipy(folder, ids, class_ids, logs):
    """As the predictions of Mac Aodha et al. are handed out: sparse, with what is small left out."""
    sparse.save_npz(folder / "other.npz", sparse.csr_matrix(np.exp(logs.astype(np.float64)).astype(np.float32)))
    for name, names in (("ids", ids), ("class_ids", class_ids)):
        (folder / f"other_{name}.txt").write_text("\r\n".join(names))
    return str(folder / "other.npz")


WAYS["sparse npz"] = of_scipy
WAYS |= {f"{way}, by columns": lambda folder, ids, classes, logs, way=way: WAYS[way](folder, ids, classes,
                                                                                     np.asfortranarray(logs))
         for way in ("npz", "npz, compressed", "npy of logs")}
