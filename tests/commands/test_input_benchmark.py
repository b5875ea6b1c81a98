"""benchmarks/input_pipeline.py runs on any shards and tells table and JSON; how fast is for a machine that does nothing else."""

import json
import subprocess
import sys

import pytest

from pipeline.ops import randaugment
from raw_data import REPOSITORY, assert_one_line_mistake


def run(*flags):
    return subprocess.run([sys.executable, "-m", "benchmarks.input_pipeline", *flags], cwd=REPOSITORY, capture_output=True,
                          text=True, timeout=600)


@pytest.mark.slow
def test_table_and_json(tiny_data, tmp_path):
    out = tmp_path / "rates.json"
    done = run(f"--data_dir={tiny_data.directory}", "--size=32", "--randaugment=2:4", "--pictures=16", "--batch_size=8",
               "--repeats=1", "--large_pixels=100000", "--large_noise=2", f"--out={out}")
    assert done.returncode == 0, done.stderr[-3000:]
    lines = done.stdout.splitlines()
    table = {cells[1]: [float(cell) for cell in cells[2:5]] for cells in
             ([cell.strip() for cell in line.split("|")] for line in lines if line.startswith("| ")) if cells[2][:1].isdigit()}
    assert {"read", "read, parse", "decode", "crop inside the decode", "crop, resize", "crop, resize, exact", "train",
            "train, mixup", "train, CutMix", "train, RandAugment", "train, RandAugment, reference",
            "train, RandAugment on the device", "large: decode",
            "large: crop, resize", "large: decode, then crop, resize, exact", "large, progressive: decode",
            "large, progressive: crop, resize"} <= set(table)
    for name in randaugment.OPERATIONS:
        assert {f"{name}, fast", f"{name}, reference"} <= set(table)
    assert all(figure > 0 for figures in table.values() for figure in figures) and table["decode"][2] == 1
    written = json.loads(out.read_text())
    assert set(written["rates"]) == set(written["core_rates"]) == {"decode", "crop_resize", "train", "train_randaugment",
                                                                   "train_device"}
    assert written["rates"]["train"] == written["rows"]["train"]["images"] == pytest.approx(table["train"][0], abs=0.5)
    assert set(written["rows"]) == set(table) and written["size"] == 32
    assert all(any(line.startswith(ratio) for line in lines) for ratio in (
        "train / decode: ", "large: crop, resize / large: decode: ", "large: crop, resize / large: decode, then crop"))
    assert "large: 0." in done.stderr and "MB a picture" in done.stderr


@pytest.mark.parametrize("flags, words", [((), ("--data_dir",)), (("--data_dir=nowhere",), ("nowhere",))])
def test_mistakes_end_with_one_line(flags, words):
    assert_one_line_mistake(run(*flags), *words)


def test_a_bad_randaugment_is_told_before(tiny_data):
    assert_one_line_mistake(run(f"--data_dir={tiny_data.directory}", "--randaugment=6"), "randaugment", "6:4")
