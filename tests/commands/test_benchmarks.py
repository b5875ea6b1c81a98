"""The benchmarks run and tell their table; how fast is for a machine that does nothing else."""

import importlib.metadata
import json
import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from benchmarks import fusion as benchmark
import exported
import raw_data
from pipeline.answers import predictions
from raw_data import REPOSITORY, assert_one_line_mistake


def run(*flags):
    return subprocess.run([sys.executable, "-m", "benchmarks.fusion", *flags], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=300)


def test_the_fusion_benchmark_prints_a_line_a_pass_and_leaves_nothing(tmp_path):
    done = run("--examples=300", "--classes=40", "--repeats=1", f"--folder={tmp_path}")
    assert done.returncode == 0, done.stderr
    told, header, *lines = done.stdout.splitlines()
    assert "300 examples of 40 classes" in told and "resident MiB" in header
    assert [line[:40].strip() for line in lines] == list(benchmark.PASSES)
    assert all(0 < float(line.split()[-1]) < 2048 for line in lines)
    assert not list(tmp_path.iterdir())


def test_the_gallery_benchmark_tells_alike_what_is_far_apart(tmp_path):
    """Six classes of bright and dark colours; two are left out, and added by one photo each or by three."""
    colours = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220), "white": (240, 240, 240),
               "black": (10, 10, 10), "yellow": (230, 220, 20)}
    noise = np.random.default_rng(0)
    for name, colour in colours.items():
        for number in range(6):
            photo = np.clip(np.array(colour) + noise.normal(0, 5, (48, 48, 3)), 0, 255).astype(np.uint8)
            raw_data.write(tmp_path / "raw" / "train" / name / f"{number}.jpg", raw_data.encode(photo))
    records, model = (f"--{flag}={tmp_path}/{folder}" for flag, folder in (("data_dir", "records"), ("model_dir", "model")))
    exported.succeed("create_tfrecords.py", "--competition=folder", f"--data_dir={tmp_path}/raw",
                     f"--out_dir={tmp_path}/records", "--workers=1")
    exported.succeed("multi_stage_train.py", records, model, "--model=kecam/EfficientNetV2Tiny", "--batch_size=12",
                     "--stage=name=probe,size=32,train=probe")
    command = [sys.executable, "-m", "benchmarks.gallery", records, model, "--draws=2", "--photos=1", "--photos=3"]
    done, refused = (subprocess.run([*command, f"--left_out={count}"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
                     for count in (2, 5))
    assert done.returncode == 0, done.stderr
    assert_one_line_mistake(refused, "--left_out=5", "6 classes")
    header, _, *rows = done.stdout.splitlines()
    assert header == "| photos of each | known, before | known | added |" and len(rows) == 2
    scores = [[float(cell.split()[0]) for cell in row.split("|")[1:-1]] for row in rows]
    assert [one[0] for one in scores] == [1, 3] and all(0 <= value <= 1 for one in scores for value in one[1:])
    assert scores[1][3] >= 0.9  # three photos of a colour of its own


def test_both_sides_of_the_comparison_compute_the_same(tmp_path):
    benchmark.write_models(str(tmp_path), 30, 7)
    found = []
    for function in (benchmark.bare_probabilities, benchmark.fuse):
        function(str(tmp_path))
        found.append(np.load(tmp_path / benchmark.OUT / predictions.MATRIX_FILE))
    np.testing.assert_allclose(*found, rtol=1e-3)  # one rounding of float16
    assert found[0].shape == (30, 7)


def test_too_small_a_disk_is_told_before(tmp_path):
    done = run("--examples=1000000000", f"--folder={tmp_path}")
    assert_one_line_mistake(done, "--folder", str(tmp_path), "GB")


@pytest.mark.parametrize("correct, geo", [(True, False), (False, True), (True, True)])
def test_priors_change_what_is_written(tmp_path, correct, geo):
    benchmark.write_models(str(tmp_path), 30, 7)
    benchmark.fuse(str(tmp_path))
    path = tmp_path / benchmark.OUT / predictions.MATRIX_FILE
    plain = np.load(path)
    benchmark.fuse(str(tmp_path), correct, geo)
    fused = np.load(path).astype(np.float64)
    assert (fused != plain).all(axis=1).mean() > 0.9
    np.testing.assert_allclose(np.exp(fused).sum(axis=1), 1, rtol=5e-3)


TELL = """
import sys
import numpy as np, pandas as pd
from benchmarks import masks
masks.FLAGS(sys.argv)
rng = np.random.default_rng(0)
table = pd.DataFrame([(seed, one % 3, str(one)) for seed in range(2) for one in range(300)], columns=["seed", "fold", "id"])
for way, share in (("boxes", 0.5), ("masks", 0.8)):
    table[f"{way}_right"], table[f"{way}_log"] = rng.random(600) < share, -rng.random(600)
table.to_csv("table.csv", index=False)
masks.tell(table)
"""


def test_masks_beside_boxes_are_told_with_intervals_of_the_pairs(tmp_path):
    done = subprocess.run([sys.executable, "-c", TELL], cwd=tmp_path, capture_output=True, text=True, timeout=300,
                          env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "table.csv")
    means = table.groupby(["seed", "fold"])[["masks_right", "boxes_right"]].mean()
    differences = means["masks_right"] - means["boxes_right"]
    low, high = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    told = next(line for line in done.stdout.splitlines() if line.startswith("top-1, masks less boxes"))
    assert told.endswith(f"{differences.mean():+.4f}, 95 % interval over the 6 pairs {low:+.4f} to {high:+.4f}")
    low, high = map(float, done.stdout.splitlines()[-1].split(": ")[1].split(" to "))
    assert 0.2 < low < differences.mean() < high < 0.4


def test_the_comparison_of_masks_wants_data_and_weights():
    done = subprocess.run([sys.executable, "-m", "benchmarks.masks"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert_one_line_mistake(done, "--data_dir")


@pytest.mark.slow
def test_training_beside_the_bare_step(tiny_data, tmp_path):
    out = tmp_path / "rates.json"
    done = subprocess.run([
        sys.executable, "-m", "benchmarks.train_step", f"--data_dir={tiny_data.directory}", "--model=kecam/EfficientNetV2Tiny",
        "--stage=name=tiny,epochs=9,size=32,lr=0.1,train=all", "--batch_size=8", "--mixup=0.2", "--steps=4", "--repeats=3",
        f"--out={out}"], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(out.read_text())
    cells = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    for (_, *figures), kind in zip(cells[1:], ("rates", "core_rates"), strict=True):
        assert [float(one) for one in figures] == pytest.approx(
            [told[kind]["training"], told[kind]["bare"], told[kind]["ratio"]], abs=0.06)
        assert told[kind]["training"] > 0 and told[kind]["ratio"] > 0
    assert told["stage"].startswith("name=tiny") and (told["steps"], told["repeats"]) == (4, 3)


def test_training_beside_the_bare_step_wants_data():
    done = subprocess.run([sys.executable, "-m", "benchmarks.train_step"], cwd=REPOSITORY, capture_output=True, text=True,
                          timeout=300)
    assert_one_line_mistake(done, "--data_dir")


def hardware(tmp_path, *flags):
    """(what is printed, what is written) of two rows at most."""
    out = tmp_path / "hardware.json"
    done = subprocess.run([
        sys.executable, "-m", "benchmarks.hardware", "--size=32", "--batch_size=8", "--steps=2", "--repeats=2", "--jit=off",
        "--augment_on=host", f"--out={out}", *flags], cwd=REPOSITORY, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout, json.loads(out.read_text())


@pytest.mark.slow
def test_what_the_machine_does(tmp_path):
    """The two rows of a CPU: the reference, and bfloat16, whose 8 bits of mantissa are what it is off by."""
    printed, told = hardware(tmp_path, "--model=kecam/EfficientNetV2Tiny", "--precision=float32", "--precision=mixed_bfloat16")
    rows = [line.strip("| ").split(" | ") for line in printed.splitlines() if line.startswith("| CPU")]
    assert [row[:4] for row in rows] == [["CPU", "host", "off", precision] for precision in ("float32", "mixed_bfloat16")]
    for row, one in zip(rows, told["rows"], strict=True):
        rates = [one["rates"]["bare"], one["rates"]["training"]]
        assert [float(rate) for rate in row[4:6]] == pytest.approx(rates, abs=0.06) and min(rates) > 0
        assert row[6] == f"{one['peak_bytes'] / 2**20:.0f} (process)" and 2**27 < one["peak_bytes"] < 2**34
        assert one["loss"] == pytest.approx(told["rows"][0]["loss"], rel=0.02) and not one["skipped"]
    assert rows[0][7] == "it is the CPU's" and told["rows"][0]["off_by"] == 0
    assert 2**-16 < told["rows"][1]["off_by"] < 0.5 and rows[1][7] == f"{told['rows'][1]['off_by']:.1e}"
    assert told["machine"]["TensorFlow"] == importlib.metadata.version("tensorflow")
    assert "- TPU: none was named (--tpu)" in printed and told["missing"]


@pytest.mark.slow
def test_what_the_machine_can_not_do_is_told(tmp_path):
    printed, told = hardware(tmp_path, "--model=kecam/NoSuchNet", "--precision=float32")
    assert "| CPU | host | off | float32 | – | – | – | – |" in printed.splitlines()
    assert "unknown model 'kecam/NoSuchNet'" in printed.splitlines()[-1] and told["missing"][-1] in printed


@pytest.mark.slow
def test_what_going_on_costs():
    """300 records in 5 shards, of which each epoch shows 37 batches of 8."""
    done = subprocess.run([sys.executable, "-m", "benchmarks.resume", "--records=300", "--shards=5", "--batch_size=8", "--size=32",
                           "--model=kecam/EfficientNetV2Tiny"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["records"] == 300 and told["shards"] == 5
    assert set(told["seconds to the first batch from"]) == {"beginning", "middle", "end"}
    assert set(told["mixing"]) == {"now", "before", "a perfect shuffle"}
    assert all(1 <= one["shards a batch"] <= 5 and 0 <= one["neighbours of one shard"] <= 1 for one in told["mixing"].values())
    saving = told["saving"]
    assert saving["share of 10 minutes"] == pytest.approx(saving["seconds"] / 600, abs=1e-4) and saving["seconds"] > 0


def test_neighbours_are_measured():
    done = subprocess.run([sys.executable, "-m", "benchmarks.neighbours", "--pictures=5000", "--asked=1100", "--dimensions=16",
                           "--neighbours=3"], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    heading, names, values = done.stdout.splitlines()
    assert heading.startswith("3 nearest of 5000 x 16 for 1100 pictures") and names.split()[0] == "seconds"
    seconds, worked, rate, _, resident = map(float, values.split())
    assert rate > 0 and resident > 10 and min(seconds, worked) >= 0
