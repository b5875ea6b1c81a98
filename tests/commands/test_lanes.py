"""What one lane has made, in the other: records, run.json, checkpoints, predictions, a geo prior, exports.

The lanes are those of environment.sh. FIELDMARK_OTHER_LANE names the Python of the one that these tests don't run in, as
.ci/run does; they are the same in both.
"""

import json
import os

import numpy as np
import pytest
import tensorflow as tf

import exported
import forking
from pipeline.answers import predictions
from raw_data import REPOSITORY, assert_one_line_mistake

OTHER = os.environ.get("FIELDMARK_OTHER_LANE")
pytestmark = [pytest.mark.slow,
              pytest.mark.skipif(not OTHER, reason="FIELDMARK_OTHER_LANE names no Python of the other lane")]

# Six steps, of which tests/preempted.py lets two be made.
RUN = ("--model=kecam/EfficientNetV2Tiny", "--batch_size=10", "--randaugment=1:4", "--mixup=0.2", "--dropout=0.2",
       "--stage=name=all,epochs=2,size=32,lr=0.001")
TRAIN = "multi_stage_train.py"


def training(folder, name, optimizer):
    return f"--data_dir={folder}/records", f"--model_dir={folder}/{name}", f"--optimizer={optimizer}", *RUN


def assert_done(done):
    assert done.returncode == 0, done.stderr[-3000:]


class Lane:
    """Commands by one Python."""

    def __init__(self, **python):
        self._server = forking.Server(**python)

    def run(self, script, *flags):
        kept = {name: value for name, value in os.environ.items() if name != "TF_USE_LEGACY_KERAS"}
        return self._server.run([str(REPOSITORY / script), *flags], timeout=900,
                                environment={**kept, "PYTHONDONTWRITEBYTECODE": "1"})

    def succeed(self, script, *flags):
        assert_done(self.run(script, *flags))

    def train(self, folder, name, optimizer):
        return self.run(TRAIN, *training(folder, name, optimizer))

    def begin(self, folder, name, optimizer):
        done = self.run("tests/preempted.py", TRAIN, *training(folder, name, optimizer))
        assert done.returncode == 75 and "after step 2 of the stage" in done.stderr, done.stderr[-3000:]

    def close(self):
        self._server.close()


@pytest.fixture(scope="module")
def lanes():
    """(this one, the other)."""
    both = Lane(), Lane(python=OTHER)
    yield both
    for one in both:
        one.close()


@pytest.fixture(scope="module")
def made(lanes, tmp_path_factory):
    """Two folders, one begun by each lane and gone on with by the other: records/ and model/, whose first steps the one
    took and the others the other. In the first `whole` too, by one lane alone."""
    folders = [tmp_path_factory.mktemp("lanes") / name for name in ("of_this", "of_other")]
    for folder, lane, other in zip(folders, lanes, reversed(lanes)):
        raw = exported.write_raw(folder / "raw")
        lane.succeed("create_tfrecords.py", "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={folder}/records",
                     "--workers=1")
        lane.begin(folder, "model", "adam")
        assert_done(other.train(folder, "model", "adam"))
    assert_done(lanes[0].train(folders[0], "whole", "adam"))
    return folders


def checkpoint_of(model_dir):
    """Its numbers by name, the optimizer's too."""
    reader = tf.train.load_checkpoint(str(model_dir / "stage_1_all" / "last"))
    names = [name for name in reader.get_variable_to_shape_map() if name.endswith("VARIABLE_VALUE")]
    return {name: reader.get_tensor(name) for name in names}


def test_records_and_the_rest_of_a_run(made):
    of_this, of_other = made
    manifests = [json.loads((folder / "records" / "dataset.json").read_text()) for folder in made]
    for name in ("shards", "classes"):  # the shards' digests among them
        assert manifests[0][name] == manifests[1][name] and manifests[0][name]
    assert (of_this / "records" / "examples.csv").read_bytes() == (of_other / "records" / "examples.csv").read_bytes()
    versions = [json.loads((folder / "model" / "run.json").read_text())["versions"]["tensorflow"] for folder in made]
    assert versions[0] != versions[1] == tf.__version__  # of whoever went on
    whole = checkpoint_of(of_this / "whole")
    assert sum(name.startswith("optimizer/") for name in whole) > 100  # Adam's means and squares go on too
    for folder in made:
        found = checkpoint_of(folder / "model")
        assert found.keys() == whole.keys()
        for name, value in whole.items():  # half a step of Adam's; where a gradient is rounding alone, so is its sign
            np.testing.assert_allclose(found[name], value, rtol=0.01, atol=5e-4, err_msg=name)
        distances = [np.linalg.norm(found[name] - value) / np.linalg.norm(value) for name, value in whole.items() if value.any()]
        assert np.median(distances) < 0.002  # seen: 0.000001 and 0.00007


def test_predictions_submissions_exports_and_answers(made, lanes):
    of_this, of_other = made
    lanes[0].succeed("train_geo_prior.py", "--competition=inat2021", f"--data_dir={of_this}/raw",
                     f"--model_dir={of_this}/geo", "--epochs=1", "--embed_dim=8", "--date_input")
    found = {}
    for lane, name in zip(lanes, ("this", "other")):
        for folder in made:  # by a network that each lane has a part in
            lane.succeed("predict.py", f"--data_dir={of_this}/records", f"--model_dir={folder}/model",
                         f"--out={folder}/{name}", "--tta=six")
            one = predictions.Predictions(str(folder / name))
            found[name, folder] = one.ids, np.exp(one.rows(np.arange(len(one.ids))))
    for folder in made:
        assert found["this", folder][0] == found["other", folder][0]
        np.testing.assert_allclose(found["this", folder][1], found["other", folder][1], atol=exported.CLOSE)
    both = f"--predictions={of_this}/this", f"--predictions={of_other}/other"
    for lane, name in zip(lanes, ("this", "other")):
        lane.succeed("make_submission.py", f"--data_dir={of_this}/records", *both, f"--geo_prior={of_this}/geo",
                     f"--out={of_this}/{name}.csv")
    assert (of_this / "this.csv").read_bytes() == (of_this / "other.csv").read_bytes()

    paths = [f"{of_this}/raw/public_test/{one}.jpg" for one in found["this", of_this][0]]
    expected = sum(found[name, folder][1] for name, folder in zip(("this", "other"), made)) / 2
    for lane, other, name in zip(lanes, reversed(lanes), ("this", "other")):
        lane.succeed("export.py", f"--data_dir={of_this}/records", *both, f"--out={of_this}/export_{name}")
        other.succeed("identify.py", f"--model={of_this}/export_{name}", *paths, f"--json={of_this}/{name}.json")
        told = json.loads((of_this / f"{name}.json").read_text())["pictures"]
        assert [one["answers"][0]["id"] for one in told] == [str(10 * (best + 1)) for best in expected.argmax(1)]
        np.testing.assert_allclose([one["answers"][0]["probability"] for one in told], expected.max(1), atol=exported.CLOSE)


def test_lamb_goes_on_where_it_began(made, lanes):
    """With tensorflow-addons and without it has other slots."""
    for number, (folder, lane, other) in enumerate(zip(made, lanes, reversed(lanes))):
        lane.begin(folder, "lamb", "lamb")
        kept = checkpoint_of(folder / "lamb")
        has = ["tensorflow-addons" in json.loads((one / "model" / "run.json").read_text())["versions"] for one in made]
        done = other.train(folder, "lamb", "lamb")
        if has[0] == has[1]:
            assert_done(done)
            continue
        assert_one_line_mistake(done, "--model_dir", "lamb_without_tensorflow_addons")
        assert checkpoint_of(folder / "lamb").keys() == kept.keys()
        if number == 0:
            assert_done(lane.train(folder, "lamb", "lamb"))
