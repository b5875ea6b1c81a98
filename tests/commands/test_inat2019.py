"""SENet-154 by the recipe of iNat 2019's fine model takes a real step. Slow: the network has 113 million weights."""

import pytest

import random_boxes
import raw_data
import tiny_records


@pytest.mark.slow
def test_the_fine_model_takes_a_step(tmp_path):
    """The coarse one is the same network with the same optimizer; its pictures are those of tests/ops."""
    data = tiny_records.make(tmp_path, train=2, val=2, test=1)
    random_boxes.write(data, "coarse", "train+val", with_masks=True)
    done = raw_data.run_command(
        "multi_stage_train.py", "--flagfile=configs/inat2019/fine.flags", f"--data_dir={data.directory}",
        f"--model_dir={tmp_path}/m", "--weights=none", "--max_steps=1", "--batch_size=2",
        "--stage=name=all,epochs=32,size=64,lr=0:0.004:0.04,train=all", cwd=raw_data.REPOSITORY, timeout=900)
    assert done.returncode == 0, done.stderr
    header, row = (tmp_path / "m" / "stage_1_all" / "history.csv").read_text().splitlines()
    told = dict(zip(header.split(","), map(float, row.split(","))))
    # Two pictures instead of 14: the rate goes along; the first of 32 epochs has 2/33 of the peak.
    assert told["lr"] == pytest.approx(0.04 * 2 / 14 * 2 / 33, rel=1e-5) and told["loss"] > 0
