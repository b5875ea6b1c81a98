"""The small recipe from scratch on real pictures with places: what its geo prior and its views bring. Slow: it trains."""

import json

import pytest

from conftest import ROOT
from raw_data import run_command

pytestmark = pytest.mark.slow


def test_place_and_date_help_a_small_network_from_scratch(sample_data, tmp_path):
    """The commands of configs/tiny/inat2021.flags' header, on ten species of butterflies."""
    raw, records, model = sample_data / "inat2021_mini", tmp_path / "records", tmp_path / "model"
    for script, *flags in (
        ("create_tfrecords.py", "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={records}"),
        ("multi_stage_train.py", f"--flagfile={ROOT}/configs/tiny/inat2021.flags", f"--data_dir={records}",
         f"--model_dir={model}"),
        ("train_geo_prior.py", f"--flagfile={ROOT}/configs/geo_prior/ten_species.flags", "--competition=inat2021",
         f"--data_dir={raw}", f"--model_dir={tmp_path}/geo"),
        ("predict.py", f"--data_dir={records}", f"--model_dir={model}", "--split=val"),
        ("predict.py", f"--data_dir={records}", f"--model_dir={model}", "--split=val", "--tta=none",
         f"--out={tmp_path}/one_view"),
        ("evaluate.py", f"--data_dir={records}", f"--predictions={model}/predictions/val",
         f"--without_tta={tmp_path}/one_view", f"--geo_prior={tmp_path}/geo", f"--out={tmp_path}/scores.json"),
    ):
        done = run_command(script, *flags, timeout=600)
        assert done.returncode == 0, done.stderr
    steps = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))["steps"]
    assert list(steps) == ["picture", "+ geo", "+ TTA"]
    assert steps["picture"]["top1"] > 0.4  # chance: 0.1
    assert steps["+ geo"]["top1"] >= steps["picture"]["top1"] + 0.03
    assert steps["+ geo"]["log_loss"] < steps["picture"]["log_loss"]
