"""RECIPES=auto on few pictures, with real training: a probe and fine-tuning by folds, blended as they do out of fold."""

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import raw_data
from raw_data import REPOSITORY

pytestmark = pytest.mark.slow

FEW, TEST, SIZE = 24, 4, 48  # pictures to train on and of test, pixels
TRAIN_FLAGS = "--model=keras/efficientnet-tiny --weights=none --batch_size=8 --tta=none --min_steps=0"


def write_pictures(folder, several):
    """A table of pictures whose red and green tell the label, or the labels."""
    rows = []
    for one in range(FEW + TEST):
        bits = one % 2, one // 2 % 2
        pixels = np.random.default_rng(one).integers(0, 120, (SIZE, SIZE, 3), dtype=np.uint8)
        pixels[..., :2] += np.array(bits, np.uint8) * 100
        raw_data.write(folder / f"{one:02d}.jpg", raw_data.encode(pixels, quality=95))
        labels = "|".join(["blue"] + [name for name, there in zip(("red", "green"), bits) if there])
        rows.append({"path": f"{one:02d}.jpg", "split": "train" if one < FEW else "test",
                     "labels" if several else "label": labels if several else f"c{bits[0]}{bits[1]}"})
    with open(folder / "table.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def run(folder, *flags):
    done = subprocess.run(
        ["bash", str(REPOSITORY / "run_inference.sh"), "table", str(folder / "raw"), str(folder / "run"), "--val_share=0",
         "--until=submission", *flags], capture_output=True, text=True, timeout=1500, check=False,
        env={**os.environ, "PYTHON": sys.executable, "RECIPES": "auto", "FOLDS": "2", "TRAIN_FLAGS": TRAIN_FLAGS})
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("several", [False, True])
def test_few_pictures_become_a_submission_of_both(tmp_path, several):
    write_pictures(tmp_path / "raw", several)
    told = run(tmp_path)
    run_dir = tmp_path / "run"
    a_class = 16.0 if several else 6.0  # 24 + 12 + 12 labels of 3, or 24 of 4
    assert f"configs/probe.flags, configs/small.flags (as asked for by auto: 24 pictures of train, {a_class} a class" in told
    scores = json.loads((run_dir / "scores.json").read_text())
    assert scores["examples"] == FEW and len(scores["weights"]) == 2
    assert sum(scores["weights"].values()) == pytest.approx(1)
    meta = json.loads((run_dir / "submission.meta.json").read_text())
    assert [one["name"] for one in meta["members"]] == ["probe", "small"] and meta["blend"] == "oof" and not meta["missing"]
    for what in ("weights", "member_temperatures"):
        assert list(meta[what].values()) == list(scores[what].values()) and list(meta[what]) == ["probe", "small"]
    with open(run_dir / "submission.csv", newline="", encoding="utf-8") as file:
        assert [row["id"] for row in csv.DictReader(file)] == [f"{one:02d}.jpg" for one in range(FEW, FEW + TEST)]
    plan = run(tmp_path, "--dry_run")
    assert "to do:" not in plan and plan.count("  stands") == 7
