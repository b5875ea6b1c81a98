"""The small recipe for a long tail, from pretrained weights on real pictures: what the prior correction moves. Slow."""

import json

import pytest

from conftest import ROOT
from raw_data import run_command

pytestmark = pytest.mark.slow


def test_prior_correction_on_a_uniform_val(sample_data, lite0_weights, tmp_path):
    """Ten garments, 16 to about 200 train pictures each, by the commands of configs/lite0/inat2019.flags' header.

    The rare are answered more often, and val, where all are alike, is less of a surprise. What top-1 gains in all is within the
    spread of such runs: of 100 pictures 5 more in one, 1 fewer in another."""
    records, model = tmp_path / "records", tmp_path / "model"
    for script, *flags in (
        ("create_tfrecords.py", "--competition=inat2019", f"--data_dir={sample_data / 'inat2019_mini'}",
         f"--out_dir={records}"),
        ("multi_stage_train.py", f"--flagfile={ROOT}/configs/lite0/inat2019.flags", f"--weights={lite0_weights}",
         f"--data_dir={records}", f"--model_dir={model}"),
        ("predict.py", f"--data_dir={records}", f"--model_dir={model}", "--split=val"),
        ("evaluate.py", f"--data_dir={records}", f"--predictions={model}/predictions/val", "--prior_correction=1",
         f"--out={tmp_path}/scores.json"),
    ):
        done = run_command(script, *flags, timeout=1500)
        assert done.returncode == 0, done.stderr
    scores = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    plain, corrected = scores["steps"]["picture"], scores["steps"]["+ prior correction"]
    assert min(plain["top1"], corrected["top1"]) >= 0.72
    assert corrected["log_loss"] < plain["log_loss"] < 0.85
    few, many = (next(one["top1"] for group, one in scores["long_tail"].items() if group.startswith(name))
                 for name in ("few", "many"))
    assert few["+ prior correction"] > few["picture"]
    assert many["+ prior correction"] <= many["picture"]
