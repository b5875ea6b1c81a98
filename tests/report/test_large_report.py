"""The report of 100,000 pictures of 10,000 classes, through the command: its time, memory and size."""

import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from conftest import ROOT
from predicted_data import make_dataset
from pipeline.answers import predictions

CLASSES, PICTURES, BLOCK = 10_000, 100_000, 1_000


@pytest.mark.soak
def test_ten_thousand_classes_and_a_hundred_thousand_pictures(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, PICTURES)
    data = make_dataset(tmp_path / "records", labels.tolist(), train_counts=rng.integers(10, 300, CLASSES).tolist())
    ids = list(data.examples("val")["id"])
    noise = rng.normal(scale=2, size=(BLOCK, CLASSES)).astype(np.float32)

    def rows():
        for start in range(0, PICTURES, BLOCK):
            logs = np.roll(noise, start // BLOCK, axis=1)
            logs[np.arange(BLOCK), labels[start:start + BLOCK]] += 8
            yield ids[start:start + BLOCK], logs

    predictions.write(str(tmp_path / "val"), rows(), {
        "examples": PICTURES, "class_ids": data.class_ids, "split": "val", "model_dir": "",
        "dataset": {"classes": data.classes_digest()}})
    started = time.monotonic()
    done = subprocess.run([sys.executable, str(ROOT / "evaluate.py"), f"--data_dir={data.directory}",
                           f"--predictions={tmp_path}/val", f"--report={tmp_path}/report.html"], capture_output=True, text=True)
    seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2 ** 20
    size = (tmp_path / "report.html").stat().st_size / 2 ** 20
    print(f"report of {PICTURES:,} × {CLASSES:,}: {seconds:.0f} s, {peak:.2f} GiB, {size:.1f} MiB")
    assert seconds < 180 and peak < 4 and size < 20
