"""The benchmarks run and tell their table; how fast is for a machine that does nothing else."""

import subprocess
import sys

import numpy as np
import pytest

from benchmarks import fusion as benchmark
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
