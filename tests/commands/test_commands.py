"""The commands as a person runs them: from raw files to a CSV, mistakes, and the sixth-place solution's own flags."""

import csv
import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from raw_data import assert_one_line_mistake, run_command, write
import solution_records
import tiny_records

TRAIN_FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=2,size=32,lr=0.01,train=all",
               "--optimizer=adam", "--batch_size=10")


@pytest.fixture(scope="module")
def whole_way(tmp_path_factory):
    """Raw files, one of which is no picture, through every command; returns the folder."""
    folder = tmp_path_factory.mktemp("way")
    tiny_records.write_raw(folder / "raw", train=30, val=9, test=8)
    (folder / "raw" / "public_test" / "41.jpg").write_bytes(b"no picture")
    for script, *flags in (
        ("create_tfrecords.py", "--competition=inat2021", f"--data_dir={folder}/raw", f"--out_dir={folder}/records"),
        ("multi_stage_train.py", f"--data_dir={folder}/records", f"--model_dir={folder}/model", *TRAIN_FLAGS),
        ("predict.py", f"--data_dir={folder}/records", f"--model_dir={folder}/model", "--split=val", "--tta=flip"),
        ("predict.py", f"--data_dir={folder}/records", f"--model_dir={folder}/model", "--split=test", "--tta=six",
         f"--out={folder}/test"),
        ("evaluate.py", f"--data_dir={folder}/records", f"--predictions={folder}/model/predictions/val",
         f"--out={folder}/scores.json"),
        ("make_submission.py", f"--data_dir={folder}/records", f"--predictions={folder}/test",
         f"--out={folder}/submission.csv"),
    ):
        done = run_command(script, *flags)
        assert done.returncode == 0, done.stderr
    return folder


def test_the_submission_has_a_row_for_every_picture_of_the_test_file(whole_way):
    with open(whole_way / "submission.csv", newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["Id", "Predicted"]
    assert [row[0] for row in rows] == [str(image_id) for image_id in range(39, 47)]
    for _, predicted in rows:
        assert sorted(predicted.split(), key=int) == ["10", "20", "30"]  # three classes are all there are
    # The picture that could not be read holds the classes by their frequency in train: 10 each, so by index.
    assert dict(rows)["41"] == "10 20 30"


def test_answers_stand_in_the_order_of_the_probabilities(whole_way):
    matrix = np.load(whole_way / "test" / "log_probabilities.npy")
    ids = (whole_way / "test" / "ids.txt").read_text().split()
    with open(whole_way / "submission.csv", newline="", encoding="utf-8") as file:
        rows = {row["Id"]: row["Predicted"] for row in csv.DictReader(file)}
    assert len(ids) == 7
    for one, logs in zip(ids, matrix):
        assert rows[one] == " ".join(str(10 * (index + 1)) for index in np.argsort(-logs, kind="stable"))


def test_evaluate_agrees_with_scikit_learn(whole_way):
    scores = json.loads((whole_way / "scores.json").read_text())
    matrix = np.load(whole_way / "model" / "predictions" / "val" / "log_probabilities.npy").astype(float)
    ids = (whole_way / "model" / "predictions" / "val" / "ids.txt").read_text().split()
    labels = [int(one) % 3 for one in ids]  # as tiny_records draws them
    probabilities = np.exp(matrix) / np.exp(matrix).sum(axis=1, keepdims=True)
    assert scores["top1"] == pytest.approx(sklearn_metrics.accuracy_score(labels, matrix.argmax(axis=1)))
    assert scores["log_loss"] == pytest.approx(sklearn_metrics.log_loss(labels, probabilities, labels=[0, 1, 2]))
    competition = run_command("evaluate.py", f"--data_dir={whole_way}/records",
                              f"--predictions={whole_way}/model/predictions/val").stdout
    assert f"top1_error: {1 - scores['top1']:.4f}" in competition
    assert set(scores) >= {"top1", "top5", "macro_top1", "log_loss"}


def test_a_split_without_labels_is_not_scored(whole_way):
    done = run_command("evaluate.py", f"--data_dir={whole_way}/records", f"--predictions={whole_way}/test")
    assert_one_line_mistake(done, "test", "no labels")


@pytest.mark.parametrize("script, flags, words", [
    ("multi_stage_train.py", ["--modle=x"], ["modle"]),
    ("multi_stage_train.py", ["--optimizer=sdg"], ["optimizer", "lamb"]),
    ("multi_stage_train.py", ["--flagfile=nowhere.flags"], ["nowhere.flags"]),
    ("multi_stage_train.py", ["--model_dir=m", "--model=keras/resnet50", "--stage=name=a,epoch=1"], ["epoch", "epochs"]),
    ("multi_stage_train.py", ["--model_dir=m", "--model=keras/resnet50", "--data_dir=nowhere",
                              "--stage=name=a,epochs=1,size=32,lr=1"], ["nowhere", "dataset.json"]),
    ("multi_stage_train.py", ["stray"], ["stray"]),
    ("predict.py", ["--data_dir=x"], ["--model_dir"]),
    ("evaluate.py", ["--data_dir=x"], ["--predictions"]),
    ("make_submission.py", ["--predictions=x"], ["--data_dir"]),
])
def test_mistakes_end_with_one_line_and_exit_code_2(script, flags, words, tmp_path):
    assert_one_line_mistake(run_command(script, *flags, cwd=tmp_path), *words)


def test_an_unknown_model_lists_the_known_ones(whole_way, tmp_path):
    done = run_command("multi_stage_train.py", f"--data_dir={whole_way}/records", f"--model_dir={tmp_path}/m",
                       "--model=keras/b3", "--stage=name=a,epochs=1,size=32,lr=1")
    assert done.returncode == 2
    assert done.stderr.strip().splitlines()[-1].count("keras/efficientnet-b3") == 1
    assert "Traceback" not in done.stderr


SOLUTION_FLAGFILE = """
--training_files={folder}/records/inat_train.record-?????-of-00002
--num_training_instances=16
--validation_files={folder}/records/inat_val.record-?????-of-00002
--num_validation_instances=6
--num_classes=3
--model_name=efficientnet-b0
--input_size=32
--input_size_stage3=48
--input_scale_mode=uint8
--batch_size=4
--lr_stage1=0.1
--lr_stage2=0.1
--lr_stage3=0.008
--momentum=0.9
--epochs_stage1=0
--epochs_stage2=1
--epochs_stage3=1
--unfreeze_layers=18
--label_smoothing=0.1
--randaug_num_layers=6
--randaug_magnitude=4
--use_coordinates_inputs
--base_model_weights=none
--random_seed=42
"""


@pytest.mark.slow
def test_the_sixth_place_solutions_own_flagfiles_work(tmp_path):
    for split, count in (("train", 16), ("val", 6), ("public_test", 5)):
        solution_records.write(tmp_path / "records", split, count)
    flagfile = tmp_path / "solution.config"
    write(flagfile, SOLUTION_FLAGFILE.format(folder=tmp_path).encode())
    done = run_command("multi_stage_train.py", f"--flagfile={flagfile}", f"--model_dir={tmp_path}/model", "--max_steps=2")
    assert done.returncode == 0, done.stderr
    run = json.loads((tmp_path / "model" / "run.json").read_text())["same"]
    assert run["model"] == "keras/efficientnet-b0" and run["place_input"] and run["stage_order"] == ["all", "fixres"]
    everything, fixres = run["stages"]["all"], run["stages"]["fixres"]
    assert (everything["size"], everything["randaugment"], everything["train"]) == (32, "6:4:same:tf_contrast", "all")
    assert (fixres["size"], fixres["randaugment"], fixres["train"]) == (48, "", "last:18")
    assert fixres["augment"] == "eval" and everything["scale_lr"] and everything["warmup_epochs"] == 0.3
    done = run_command(
        "predict.py", f"--test_files={tmp_path}/records/inat_public_test.record-?????-of-00002", "--num_classes=3",
        "--model_name=efficientnet-b0", "--input_size=48", "--input_scale_mode=uint8", "--batch_size=2",
        "--use_coordinates_inputs", f"--ckpt_dir={tmp_path}/model",
        f"--submission_file_path={tmp_path}/submission.csv", "--use_tta")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "submission.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["Id", "Predicted"] and [row[0] for row in rows[1:]] == ["0", "1", "2", "3", "4"]
    assert json.loads((tmp_path / "model" / "predictions" / "test" / "meta.json").read_text())["tta"] == "six"


@pytest.mark.parametrize("flags, words", [
    (["--num_training_instances=17"], ["--num_training_instances=17", "16"]),
    (["--model_name=efficientnet-b9"], ["efficientnet-b9", "efficientnet-b3"]),
    (["--input_scale_mode=bgr_mode"], ["input_scale_mode", "torch_mode"]),
    (["--lr=0.1"], ["--lr is of the solution's main.py", "--input_size_stage3"]),
    (["--date_encode=none"], ["date_encode", "encode_cos_sin"]),
    (["--randaug_num_layers=2", "--norandaug"], ["norandaug"]),
])
def test_mistakes_in_the_solutions_flags(flags, words, tmp_path):
    for split, count in (("train", 16), ("val", 6)):
        solution_records.write(tmp_path / "records", split, count)
    flagfile = tmp_path / "solution.config"
    write(flagfile, SOLUTION_FLAGFILE.format(folder=tmp_path).encode())
    done = run_command("multi_stage_train.py", f"--flagfile={flagfile}", f"--model_dir={tmp_path}/model", *flags)
    assert_one_line_mistake(done, *words)
