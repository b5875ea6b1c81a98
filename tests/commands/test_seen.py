"""What a model has seen, through the commands: what starts, fits and scores on pictures that it was trained on."""

import csv
import json
import pathlib
import shutil

import numpy as np
import pytest

import tiny_records
from pipeline.errors import UserError
from pipeline.records import dataset as datasets
from pipeline.runs import seen
from predicted_data import make_dataset, random_logs, write_predictions
from raw_data import assert_one_line_mistake, run_command

FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.01,train=head", "--optimizer=adam",
         "--batch_size=10", "--max_steps=1")


def succeed(script, *flags):
    done = run_command(script, *flags)
    assert done.returncode == 0, done.stderr
    return done


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """records/ in two folds with train_mini, the first ten of train; anew/, the same in other folds; others/, other ids."""
    folder = tmp_path_factory.mktemp("seen")
    raw = tiny_records.write_raw(folder / "raw", train=40, val=8, test=6)
    train = json.loads((raw / "train.json").read_text())
    first = train["annotations"][0]["category_id"]
    for annotation in train["annotations"][1::4]:  # so that the classes are not equally frequent
        annotation["category_id"] = first
    (raw / "train.json").write_text(json.dumps(train))
    few = {key: train[key][:10] if key in ("images", "annotations") else one for key, one in train.items()}
    (raw / "train_mini.json").write_text(json.dumps(few))
    others = shutil.copytree(raw, folder / "others_raw")
    for name in ("train.json", "train_mini.json", "val.json", "public_test.json"):
        contents = json.loads((others / name).read_text())
        for image in contents["images"]:
            image["id"] += 1000
        for annotation in contents.get("annotations", ()):
            annotation["image_id"] += 1000
        (others / name).write_text(json.dumps(contents))
    for source, name, seed in (("raw", "records", 1), ("raw", "anew", 2), ("others_raw", "others", 1)):
        succeed("create_tfrecords.py", "--competition=inat2021", f"--data_dir={folder}/{source}", f"--out_dir={folder}/{name}",
                "--folds=2", f"--random_seed={seed}", "--workers=1")
    return folder


def train(folder, name, *flags, records="records"):
    return run_command("multi_stage_train.py", f"--data_dir={folder}/{records}", f"--model_dir={folder}/{name}", *FLAGS, *flags)


@pytest.fixture(scope="module")
def fold_0(folder):
    """A run of which fold 0 alone has finished; out of fold by the recipe's two views."""
    done = train(folder, "fold_0", "--fold=0", "--tta=flip")
    assert done.returncode == 0, done.stderr
    return folder / "fold_0"


@pytest.fixture(scope="module")
def whole(folder):
    """A run on all that has labels, with val and test predicted."""
    done = train(folder, "whole", "--train_split=train+val", "--logit_adjust=0.5", "--class_balance=sqrt")
    assert done.returncode == 0, done.stderr
    for split in ("val", "test"):
        succeed("predict.py", f"--data_dir={folder}/records", f"--model_dir={folder}/whole", f"--split={split}", "--tta=none")
    return folder / "whole"


def folds_of(folder, records="records"):
    with open(folder / records / "examples.csv", newline="", encoding="utf-8") as file:
        return {row["id"]: row["fold"] for row in csv.DictReader(file) if row["split"] == "train"}


def test_another_fold_has_seen_what_is_held_out(folder, fold_0):
    """It took fold 0's model for fold 1 without a word."""
    done = train(folder, "next", "--fold=1", f"--init_from={fold_0}", "--dry_run")
    held_out = sum(fold == "1" for fold in folds_of(folder).values())
    assert_one_line_mistake(done, "--init_from", f"{held_out} of the {held_out} pictures", "--allow_seen")
    assert not (folder / "next").exists()


def test_a_fold_that_the_ancestor_lacks_is_told_before_any_other_is_trained(folder, fold_0):
    """Fold 0 was trained first, and fold 1's mistake then ended all of them."""
    done = train(folder, "all_next", "--fold=all", f"--init_from={fold_0}")
    assert_one_line_mistake(done, "--init_from", "that fold 1 holds out here", "--allow_seen")
    assert not (folder / "all_next").exists()


def test_the_same_fold_has_not(folder, fold_0):
    done = train(folder, "next", "--fold=0", f"--init_from={fold_0}")
    assert done.returncode == 0, done.stderr
    told = json.loads((folder / "next" / "run.json").read_text())["seen"]
    assert [(one["model_dir"], one["splits"]) for one in told["ancestors"]] == [(str(fold_0), ["train"])]
    assert told["ancestors"][0]["division"] == told["division"]


def test_allow_seen_starts_and_records_it(folder, fold_0):
    done = train(folder, "allowed", "--fold=1", f"--init_from={fold_0}", "--allow_seen")
    assert done.returncode == 0, done.stderr
    held_out = json.loads((folder / "allowed" / "fold_1" / "out_of_fold" / "meta.json").read_text())
    assert held_out["seen"]["pictures"] == held_out["examples"] > 0  # fold 0's model was trained on all of them
    shutil.copytree(fold_0 / "fold_0", fold_0 / "fold_1")  # the ancestor gets its fold 1 later, which changes nothing here
    assert train(folder, "allowed", "--fold=1", f"--init_from={fold_0}", "--allow_seen").returncode == 0
    shutil.rmtree(fold_0 / "fold_1")
    assert json.loads((folder / "allowed" / "fold_1" / "out_of_fold" / "meta.json").read_text()) == held_out


@pytest.mark.parametrize("contents, word", [(None, "is missing"), (np.zeros(3), "is damaged"), ("", "is damaged")])
def test_a_broken_list_of_what_was_seen_is_a_mistake(contents, word, folder, fold_0):
    whole = (fold_0 / "seen.npy").read_bytes()
    (fold_0 / "seen.npy").unlink()
    if isinstance(contents, str):
        (fold_0 / "seen.npy").write_text(contents)
    elif contents is not None:
        np.save(fold_0 / "seen.npy", contents)
    with pytest.raises(UserError, match=f"seen.npy {word}"):
        seen.of_model(str(fold_0), datasets.load(str(folder / "records")))
    (fold_0 / "seen.npy").write_bytes(whole)


def test_a_run_without_folds_has_seen_what_a_fold_holds_out(folder, whole):
    done = train(folder, "next_2", "--fold=0", f"--init_from={whole}", "--dry_run")
    assert_one_line_mistake(done, "--init_from", "was trained on", "--allow_seen")


def test_records_made_anew_share_their_pictures_by_id(folder, fold_0):
    done = train(folder, "next_3", "--fold=0", f"--init_from={fold_0}", "--dry_run", records="anew")
    before, now = folds_of(folder), folds_of(folder, "anew")
    both = sum(before[one] != "0" for one, fold in now.items() if fold == "0")
    assert both and f"was trained on {both} of the" in done.stderr and done.returncode == 2


def test_other_data_pass_and_are_recorded(folder, fold_0):
    done = train(folder, "other", "--fold=1", f"--init_from={fold_0}", records="others")
    assert done.returncode == 0, done.stderr
    assert json.loads((folder / "other" / "run.json").read_text())["seen"]["ancestors"][0]["model_dir"] == str(fold_0)
    held_out = json.loads((folder / "other" / "fold_1" / "out_of_fold" / "meta.json").read_text())
    assert held_out["seen"]["pictures"] == 0


def test_folds_do_not_hold_out_what_another_split_repeats(folder):
    """train_mini is a part of train."""
    done = train(folder, "repeated", "--fold=0", "--train_split=train+train_mini", "--dry_run")
    assert_one_line_mistake(done, "--train_split=train+train_mini", "trained on too")


def test_a_score_on_seen_pictures_is_told_with_a_warning(folder, whole):
    """Two models of train+val had top-1 1.0 on val without a word."""
    done = succeed("evaluate.py", f"--data_dir={folder}/records", f"--predictions={whole}/predictions/val",
                   f"--out={folder}/scores.json", f"--report={folder}/report.html")
    warnings = json.loads((folder / "scores.json").read_text())["warnings"]
    assert len(warnings) == 1 and "was trained on 8 of these pictures" in warnings[0]
    assert f"warning: {warnings[0]}" in done.stdout
    assert "was trained on 8 of these pictures" in (folder / "report.html").read_text()


def test_a_score_on_unseen_pictures_has_none(folder, fold_0):
    succeed("evaluate.py", f"--data_dir={folder}/records", f"--predictions={fold_0}/fold_0/out_of_fold",
            f"--out={folder}/scores.json")
    assert json.loads((folder / "scores.json").read_text())["warnings"] == []


@pytest.mark.parametrize("script, split, flags, words", [
    ("evaluate.py", "val", ["--blend=oof"], ["--blend=oof", "was trained on"]),
    ("evaluate.py", "val", ["--geo_prior=geo", "--geo_exponent=fit"], ["geo"]),
    ("make_submission.py", "test", ["--blend=oof", "--out=s.csv"], ["--blend=oof", "none of val that it has not seen"]),
])
def test_nothing_is_fitted_on_seen_pictures(folder, whole, script, split, flags, words):
    done = run_command(script, f"--data_dir={folder}/records", f"--predictions={whole}/predictions/{split}", *flags)
    assert_one_line_mistake(done, *words)


def test_the_correction_takes_the_prior_that_a_model_was_trained_with(folder, whole):
    """It divided by the shares of train, whatever the model was trained with: twice, where training had done so."""
    said = run_command("make_submission.py", f"--data_dir={folder}/records", f"--predictions={whole}/predictions/test",
                       "--prior_correction=1", f"--out={folder}/corrected.csv")
    assert said.returncode == 0, said.stderr
    counts = np.zeros(3)
    with open(folder / "records" / "examples.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if row["split"] in ("train", "val"):
                counts[int(row["labels"])] += 1
    told = json.loads((whole / "predictions" / "test" / "meta.json").read_text())
    assert told["seen"]["class_counts"] == counts.tolist() and len(set(counts)) > 1
    learned = (counts ** 0.5) ** 0.5  # √n of each class is shown, half of it adjusted
    probabilities = np.exp(np.load(whole / "predictions" / "test" / "log_probabilities.npy").astype(float)) / learned
    ids = (whole / "predictions" / "test" / "ids.txt").read_text().split()
    with open(folder / "corrected.csv", newline="", encoding="utf-8") as file:
        rows = {row[0]: row[1].split() for row in list(csv.reader(file))[1:]}
    class_ids = told["class_ids"]
    expected = {one: [class_ids[index] for index in np.argsort(-row)] for one, row in zip(ids, probabilities)}
    assert {one: rows[one] for one in ids} == expected


def test_members_are_corrected_each_by_its_own_prior(tmp_path):
    counts, adjusted = np.array([80.0, 15.0, 5.0]), 0.0
    labels = [index % 3 for index in range(30)]
    data = make_dataset(tmp_path / "records", labels, train_counts=(80, 15, 5))
    folders, mean = [], 0
    for index, power in enumerate((1.0, adjusted)):
        logs = random_logs(30, seed=index)
        folders.append(write_predictions(tmp_path / f"m{index}" / "val", data, logs, seen={
            "pictures": 0, "class_counts": counts.astype(int).tolist(), "prior_power": power}))
        stored = np.exp(np.load(pathlib.Path(folders[-1]) / "log_probabilities.npy").astype(float)) / counts ** power
        mean = mean + stored / stored.sum(axis=1, keepdims=True) / 2
    succeed("evaluate.py", f"--data_dir={data.directory}", *(f"--predictions={one}" for one in folders),
            "--prior_correction=1", f"--out={tmp_path}/scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["top1"] == pytest.approx((mean.argmax(axis=1) == labels).mean())
    assert scores["log_loss"] == pytest.approx(-np.log(mean[np.arange(30), labels]).mean(), rel=1e-4)


def test_out_of_fold_predictions_have_the_recipes_views(fold_0):
    assert json.loads((fold_0 / "fold_0" / "out_of_fold" / "meta.json").read_text())["tta"] == "flip"


def test_what_is_fitted_on_other_views_says_so(folder, fold_0):
    for views in ("flip", "none"):
        succeed("predict.py", f"--data_dir={folder}/records", f"--model_dir={fold_0}", "--split=test", f"--tta={views}")
        shutil.copytree(fold_0 / "fold_0" / "out_of_fold", fold_0 / "out_of_fold", dirs_exist_ok=True)
        said = succeed("make_submission.py", f"--data_dir={folder}/records", f"--predictions={fold_0}/predictions/test",
                       "--blend=oof", f"--out={folder}/blended.csv").stdout
        assert ("there --tta=flip, here --tta=none" in said) == (views == "none")


def test_blending_takes_a_set_with_unlabelled_pictures(tmp_path):
    labels = [index % 3 for index in range(60)] + [None] * 15
    data = make_dataset(tmp_path / "records", labels)
    known = make_dataset(tmp_path / "known", labels[:60])
    told = {}
    for one in (data, known):
        folders = [write_predictions(tmp_path / f"{one.directory}_{seed}" / "val", one, random_logs(75, seed=seed)[:len(one.examples("val"))])
                   for seed in (1, 2)]
        succeed("evaluate.py", f"--data_dir={one.directory}", *(f"--predictions={place}" for place in folders), "--blend=oof",
                f"--out={tmp_path}/scores.json")
        told[one.directory] = json.loads((tmp_path / "scores.json").read_text())
    with_unlabelled, without = told.values()
    assert with_unlabelled["examples"] == 60
    assert list(with_unlabelled["weights"].values()) == list(without["weights"].values())
    assert with_unlabelled["log_loss"] == pytest.approx(without["log_loss"], rel=1e-6)


def older(model_dir):
    """The model directory as it was before run.json and meta.json told what was seen."""
    (model_dir / "seen.npy").unlink()
    for path in [model_dir / "run.json", *model_dir.rglob("meta.json")]:
        told = json.loads(path.read_text())
        told.pop("seen")
        path.write_text(json.dumps(told))


def test_runs_and_predictions_of_before_are_read(folder, whole, fold_0):
    for model, name in ((whole, "old_whole"), (fold_0, "old_fold_0")):
        shutil.copytree(model, folder / name)
        for path in (folder / name).rglob("*.json"):
            path.write_text(path.read_text().replace(str(model), str(folder / name)))
        older(folder / name)
    refused = train(folder, "next_4", "--fold=1", f"--init_from={folder}/old_fold_0", "--dry_run")
    assert_one_line_mistake(refused, "--init_from", "was trained on")
    old = folder / "old_whole" / "predictions" / "val"
    matrix = (old / "log_probabilities.npy").stat().st_mtime_ns
    scored = succeed("evaluate.py", f"--data_dir={folder}/records", f"--predictions={old}")
    assert "warning:" in scored.stdout and "was trained on 8 of these pictures" in scored.stdout
    succeed("predict.py", f"--data_dir={folder}/records", f"--model_dir={folder}/old_whole", "--split=val", "--tta=none")
    assert json.loads((old / "meta.json").read_text())["seen"]["pictures"] == 8
    assert (old / "log_probabilities.npy").stat().st_mtime_ns == matrix
    run = json.loads((folder / "old_whole" / "run.json").read_text())
    run["same"].update(init_from=str(fold_0), train_split="train")  # what that one has seen, meta.json alone would tell
    (folder / "old_whole" / "run.json").write_text(json.dumps(run))
    older_meta = {**json.loads((old / "meta.json").read_text()), "seen": None}
    (old / "meta.json").write_text(json.dumps(older_meta))
    scored = succeed("evaluate.py", f"--data_dir={folder}/records", f"--predictions={old}")
    assert "does not tell what its model was trained on" in scored.stdout
    again = train(folder, "old_fold_0", "--fold=0", "--tta=flip")
    assert again.returncode == 0, again.stderr
    assert json.loads((folder / "old_fold_0" / "run.json").read_text())["seen"] == json.loads(
        (fold_0 / "run.json").read_text())["seen"]


def test_predicting_records_that_are_divided_otherwise_is_refused(folder, fold_0):
    done = run_command("predict.py", f"--data_dir={folder}/anew", f"--model_dir={fold_0}", "--split=train", f"--out={folder}/p")
    assert_one_line_mistake(done, "--split=train", "was trained on")


def test_ids_that_begin_anew_in_each_split_are_other_pictures(tmp_path):
    data = make_dataset(tmp_path, [0, 1, 2, 0, 1], splits=["train", "train", "train", "val", "val"])
    text = (tmp_path / "examples.csv").read_text().replace("p3", "p1").replace("p4", "p2")
    assert not seen.ids_by_split(data)
    (tmp_path / "examples.csv").write_text(text)
    assert seen.ids_by_split(data)
