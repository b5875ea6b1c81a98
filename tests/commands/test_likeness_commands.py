"""GeM, ArcFace and neighbours through the commands: trained by folds, predicted, blended, submitted, exported, refused."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

import exported
import tiny_records
from exported import succeed
from pipeline.answers import predictions
from pipeline.ops import tta
from pipeline.prediction import loading
from pipeline.records import dataset as datasets, input as inputs
from pipeline.runs import checkpoint, record as run_record, run as runs
from raw_data import assert_one_line, assert_one_line_mistake, run_command

MODEL = ("--model=kecam/EfficientNetV2Tiny", "--batch_size=3", "--tta=flip", "--loss=arcface", "--pool=gem",
         "--embedding_dim=12", "--arcface_scale=9", "--arcface_subcentres=2", "--optimizer=adam")
# So many steps that the embedding's statistics have settled.
HEAD = "--stage=name=head,epochs=8,size=32,lr=0.01,train=head,arcface_margin=0.1,validate_every=8"
ALL = "--stage=name=all,epochs=1,size=32,lr=0.002,train=all"
NEIGHBOURS = 3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """In two folds; of train's pictures the first two of one fold are said to be copies, one of them of one of the other."""
    made = tiny_records.make(tmp_path_factory.mktemp("likeness"), folds=2, train=25, val=5, test=6)
    path = f"{made.directory}/dataset.json"
    with open(path, encoding="utf-8") as file:
        manifest = json.load(file)
    by_fold = made.examples("train").groupby("fold")["id"].apply(list)
    manifest["duplicates"] = [[by_fold[0][0], by_fold[1][0], by_fold[1][1]]]
    with open(path, "w", encoding="utf-8") as file:
        json.dump(manifest, file)
    return datasets.load(made.directory)


@pytest.fixture(scope="module")
def model(data, tmp_path_factory):
    """A run of two folds; what it predicts of train (out of fold) and of test, by its head and by neighbours."""
    folder = tmp_path_factory.mktemp("model")
    for fold in range(2):
        succeed("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={folder}", f"--fold={fold}", *MODEL, HEAD)
    for split in ("train", "test"):
        for flags in ((), (f"--neighbours={NEIGHBOURS}",)):
            succeed("predict.py", f"--data_dir={data.directory}", f"--model_dir={folder}", f"--split={split}", *flags)
    shutil.copytree(folder / "predictions" / "train", folder / predictions.OUT_OF_FOLD)  # as --fold=all leaves it
    return folder


def embeddings(data, model, fold, part):
    """By id: the mean over picture and mirror image of what stands before the head, each of length 1; in float64."""
    record = run_record.read(str(model))
    built = loading.load_classifier(record, checkpoint.find(runs.last_stage_dir(str(model), fold)), 32)
    assert built.head.scale == 9 and built.head.subcentres == 2
    before_head = tf.keras.Model(built.model.input, built.head.input)
    ids = dict(zip(part.examples()["row"], part.examples()["id"]))
    found = {}
    for batch in inputs.predict_batches(part, 32, tta.parse("none"), "squash", 1):
        picture = batch["image"].numpy()[:, 0]
        views = [before_head({"image": one}).numpy()[0].astype(np.float64) for one in (picture, picture[:, :, ::-1])]
        mean = sum(one / np.linalg.norm(one) for one in views)
        found[ids[int(batch["row"][0])]] = mean / np.linalg.norm(mean)
    return found


def voted(data, model, fold, part):
    """By id: float64 probabilities [classes] by the formula."""
    trained = data.without_fold("train", fold)
    labels = {one: label[0] for one, label in zip(trained.examples()["id"], trained.examples()["labels"])}
    known, asked = embeddings(data, model, fold, trained), embeddings(data, model, fold, part)
    copies, found = set(data.manifest.duplicates[0]), {}
    for name, own in asked.items():
        may = [one for one in known if part.split != "train" or not {one, name} <= copies]
        nearest = sorted(may, key=lambda one: -known[one] @ own)[:NEIGHBOURS]
        weights = np.exp([known[one] @ own / 0.07 for one in nearest])
        share = np.zeros(3)
        for one, weight in zip(nearest, weights / weights.sum()):
            share[labels[one]] += weight
        found[name] = 0.999 * share + 0.001 / 3
    return found


def test_neighbours_vote_as_numpy_has_it(data, model):
    held_out = predictions.Predictions(str(model / "predictions" / "train_neighbours"))
    by_fold = [voted(data, model, fold, data.held_out("train", fold)) for fold in range(2)]
    expected = {**by_fold[0], **by_fold[1]}
    assert sorted(held_out.ids) == sorted(expected) and len(expected) == 25
    np.testing.assert_allclose(np.exp(held_out.rows(np.arange(25))), [expected[one] for one in held_out.ids], atol=3e-3)
    assert held_out.meta["neighbours"] == NEIGHBOURS and held_out.meta["seen"]["pictures"] == 0
    of_test = predictions.Predictions(str(model / "predictions" / "test_neighbours"))
    by_fold = [voted(data, model, fold, data.part("test")) for fold in range(2)]
    np.testing.assert_allclose(np.exp(of_test.rows(np.arange(6))),
                               [(by_fold[0][one] + by_fold[1][one]) / 2 for one in of_test.ids], atol=3e-3)


def test_the_same_command_again_computes_nothing(data, model):
    again = succeed("predict.py", f"--data_dir={data.directory}", f"--model_dir={model}", "--split=test",
                    f"--neighbours={NEIGHBOURS}")
    assert again.stdout.count("up to date") == 2
    other = succeed("predict.py", f"--data_dir={data.directory}", f"--model_dir={model}", "--split=val", "--neighbours=5")
    assert "features of 12 train pictures stand in" in other.stderr and "features of 13 train pictures stand in" in other.stderr


def test_a_blend_is_fitted_and_goes_into_the_submission(data, model, tmp_path):
    scores = tmp_path / "scores.json"
    both = [f"--predictions={model}/out_of_fold", f"--predictions={model}/predictions/train_neighbours"]
    succeed("evaluate.py", f"--data_dir={data.directory}", *both, "--blend=oof", f"--out={scores}")
    told = json.loads(scores.read_text())
    assert sum(told["weights"].values()) == pytest.approx(1, abs=1e-3) and len(told["weights"]) == 2
    assert list(told["member_temperatures"]) == list(told["weights"]) and min(told["member_temperatures"].values()) > 0
    both = [f"--predictions={model}/predictions/test{suffix}" for suffix in ("", "_neighbours")]
    submission = [f"--data_dir={data.directory}", *both, "--blend=oof", f"--out={tmp_path}/submission.csv"]
    succeed("make_submission.py", *submission)
    shutil.move(model / "predictions" / "train_neighbours", tmp_path / "elsewhere")
    try:
        assert_one_line_mistake(run_command("make_submission.py", *submission), "--blend=oof", "3 neighbours", "--split=train")
    finally:
        shutil.move(tmp_path / "elsewhere", model / "predictions" / "train_neighbours")


def test_an_export_answers_as_the_head_and_holds_no_neighbours(data, model, tmp_path):
    records, out = f"--data_dir={data.directory}", model / "predictions" / "test"
    succeed("export.py", records, f"--predictions={out}", f"--out={tmp_path}/export")
    told = predictions.Predictions(str(out))
    encoded, places = exported.pictures(type(tmp_path)(data.directory), told.ids)
    served = exported.serve(tmp_path / "export", encoded, places)
    np.testing.assert_allclose(served["probabilities"], np.exp(told.rows(np.arange(6))), atol=exported.CLOSE)
    assert_one_line_mistake(run_command("export.py", records, f"--predictions={out}_neighbours", f"--out={tmp_path}/other"),
                            "--neighbours", "leave them out")


def test_what_does_not_go_together_is_one_line(data, model, tmp_path):
    def train(*flags):
        return run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={tmp_path}/m", *MODEL, *flags)

    assert_one_line_mistake(train(HEAD, f"{ALL},loss=softmax"), "stage all", "loss=softmax", "--loss=arcface for all")
    assert_one_line_mistake(train("--stage=name=probe,size=32,train=probe", ALL), "stage probe", "loss=arcface")
    assert_one_line_mistake(train(ALL, "--model=kecam/BeitTiny"), "--pool=gem")
    assert_one_line_mistake(train(ALL, "--loss=no_such"), "arcface", "softmax")
    asked = run_command("predict.py", f"--data_dir={data.directory}", f"--model_dir={model}", "--split=test", "--neighbours=13",
                        f"--out={tmp_path}/p")
    assert_one_line(asked, 2, "--neighbours=13", "12 pictures")
    asked = run_command("localize.py", f"--data_dir={data.directory}", f"--model_dir={model}", "--name=no", "--split=train")
    assert_one_line(asked, 2, "--loss=arcface")


def test_another_head_is_another_run_and_a_plain_one_tells_nothing_new(data, model, tmp_path):
    changed = run_command("multi_stage_train.py", f"--data_dir={data.directory}", f"--model_dir={model}", "--fold=0", *MODEL,
                          HEAD, "--arcface_subcentres=1")
    assert_one_line_mistake(changed, "arcface_subcentres was 2, is 1")
    flags = [f"--data_dir={data.directory}", f"--model_dir={tmp_path}", "--fold=0", MODEL[0], MODEL[1], f"--init_from={model}",
             "--stage=name=all,epochs=1,size=32,lr=0.01,train=head", "--max_steps=1"]
    started = succeed("multi_stage_train.py", *flags)
    assert "the base: its pooling or head is another" in started.stderr
    same = json.loads((tmp_path / "run.json").read_text())["same"]
    told = {*same, *same["stages"]["all"]}
    assert not told & {"pool", "embedding_dim", "arcface_scale", "arcface_subcentres", "arcface_margin"}
