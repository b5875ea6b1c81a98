"""Turtle Recall: two label files into one train split, an open set, and a CSV with a column for each answer."""

import csv
import json

import numpy as np
import pytest

import raw_data
from dataset_tools import submission
from dataset_tools.build import build
from dataset_tools.competitions import find
from pipeline import files
from pipeline.answers import predictions
from pipeline.errors import UserError
from pipeline.experiment import fold_runs
from pipeline.records import dataset
from raw_data import assert_one_line_mistake, encode, pixels, run_command, write

TRAIN = "image_id,image_location,turtle_id\r\nID_1,Left,t_b\r\nID_2,top,t_a\r\nID_3,Top,t_b\r\n"
EXTRA = "image_id,turtle_id\nID_4,t_a\nID_5,t_Z\nID_6,t_c\n"
TEST = "image_id,image_location\nID_8,right\nID_7,left\n"


def write_raw(folder, train=TRAIN, extra=EXTRA, test=TEST):
    for name, text in (("train.csv", "\ufeff" + train), ("extra_images.csv", extra), ("test.csv", test)):
        write(folder / name, text.encode())
    for number in range(1, 9):
        write(folder / "images" / f"ID_{number}.{'JPG' if number % 2 else 'jpg'}", encode(pixels(number)))
    return folder


def read(folder):
    return find("turtle_recall").read(str(folder))


def test_both_files_are_one_train_split(tmp_path):
    table = read(write_raw(tmp_path))
    assert table.classes == [(one, one) for one in ("t_Z", "t_a", "t_b", "t_c")]
    assert (table.known, table.unknown_answer, table.multi_label) == ((False, True, True, False), "new_turtle", False)
    assert {row.id: (row.split, row.path, row.labels) for row in table.examples.itertuples()} == {
        "ID_1": ("train", "images/ID_1.JPG", (2,)), "ID_2": ("train", "images/ID_2.jpg", (1,)),
        "ID_3": ("train", "images/ID_3.JPG", (2,)), "ID_4": ("train", "images/ID_4.jpg", (1,)),
        "ID_5": ("train", "images/ID_5.JPG", (0,)), "ID_6": ("train", "images/ID_6.jpg", (3,)),
        "ID_7": ("test", "images/ID_7.JPG", ()), "ID_8": ("test", "images/ID_8.jpg", ())}


def test_the_manifest_says_who_is_known(tmp_path):
    (write_raw(tmp_path / "raw") / "images" / "ID_3.JPG").unlink()
    made = build("turtle_recall", str(tmp_path / "raw"), str(tmp_path / "out"))
    assert [(one.source_id, one.known, one.train_count) for one in made.classes] == [
        ("t_Z", False, 1), ("t_a", True, 2), ("t_b", True, 1), ("t_c", False, 1)]
    assert made.unknown_answer == "new_turtle" and made.rejected == 1
    assert dataset.load(str(tmp_path / "out")).manifest == made


def test_without_test_there_is_no_test_split(tmp_path):
    (write_raw(tmp_path) / "test.csv").unlink()
    assert set(read(tmp_path).examples["split"]) == {"train"}


@pytest.mark.parametrize("name, text, words", [
    ("extra_images.csv", "image_id,turtle_id\nID_1,t_b\n", ["ID_1", "train.csv"]),
    ("extra_images.csv", "image_id,turtle_id\nID_4,t_b\nID_4,t_a\n", ["ID_4", "t_a", "t_b"]),
    ("train.csv", TRAIN + "ID_1,left,t_a\n", ["ID_1", "t_a"]),
    ("train.csv", "image_id,image_location\nID_1,left\n", ["no column turtle_id", "image_location"]),
    ("train.csv", "image_id,image_location,turtle_id\nID_1,left\n", ["line 2", "2 fields"]),
    ("train.csv", "image_id,image_location,turtle_id\n,left,t_a\n", ["row 1", "image_id"]),
    ("train.csv", "", ["no rows"]),
    ("train.csv", None, ["does not exist"]),
    ("extra_images.csv", None, ["does not exist"]),
    ("extra_images.csv", b"image_id,turtle_id\n\xff\xfe,t_a\n", ["UTF-8"]),
    ("extra_images.csv", 'image_id,turtle_id\nID_4,"t_a\nID_5,t_b\n', ["line 2", "quote"]),
    ("extra_images.csv", "image_id,turtle_id\nID_4,new_turtle\n", ["ID_4", "new_turtle"]),
    ("test.csv", "image_id\nID_7\nID_7\n", ["ID_7", "twice"]),
    ("test.csv", "id\nID_7\n", ["no column image_id"]),
])
def test_wrong_files_are_named(tmp_path, name, text, words):
    write_raw(tmp_path)
    if text is None:
        (tmp_path / name).unlink()
    else:
        write(tmp_path / name, text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError) as raised:
        read(tmp_path)
    for word in (name, *words):
        assert word in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_column_for_each_answer(tmp_path):
    target = tmp_path / "o.csv"
    form = find("turtle_recall").submission
    rows = [["t_b", "t_a", "new_turtle", "t_c", "t_d"], ["new_turtle", "t_a", "t_b", "t_d", "t_c"]]
    submission.write_submission(str(target), form, ["ID_8", "ID_7"], rows, 101)
    assert target.read_text() == ("image_id,prediction1,prediction2,prediction3,prediction4,prediction5\n"
                                  "ID_7,new_turtle,t_a,t_b,t_d,t_c\nID_8,t_b,t_a,new_turtle,t_c,t_d\n")
    submission.write_submission(str(target), form, ["ID_7"], [["t_a", "new_turtle"]], 2)
    assert target.read_text().splitlines()[1] == "ID_7,t_a,new_turtle,,,"
    with pytest.raises(UserError, match="distinct"):
        submission.write_submission(str(target), form, ["ID_7"], [["t_a", "new_turtle", "t_a", "t_b", "t_c"]], 101)


def write_predictions(folder, class_ids, rows):
    """Log-probabilities by id, as predict.py leaves them."""
    writer = predictions.Writer(str(folder), len(rows), len(class_ids))
    writer.append(list(rows), np.log(list(rows.values())))
    writer.finish({"class_ids": class_ids, "split": "test"})


@pytest.mark.parametrize("rule, expected", [
    ("first", ["t_b", "new_turtle", "t_a"]), ("sum", ["new_turtle", "t_b", "t_a"])])
def test_submission_through_the_command(tmp_path, rule, expected):
    raw = write_raw(tmp_path / "raw", test=TEST + "ID_9,top\n")  # there is no such picture
    build("turtle_recall", str(raw), str(tmp_path / "records"))
    write_predictions(tmp_path / "p", ["t_Z", "t_a", "t_b", "t_c"],
                      {"ID_8": [0.3, 0.1, 0.35, 0.25], "ID_7": [0.02, 0.9, 0.07, 0.01]})
    done = run_command("make_submission.py", f"--data_dir={tmp_path}/records", f"--predictions={tmp_path}/p",
                       f"--out={tmp_path}/s.csv", f"--open_set={rule}")
    assert done.returncode == 0, done.stderr
    with open(tmp_path / "s.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["ID_7", "t_a", "t_b", "new_turtle", "", ""], ["ID_8", *expected, "", ""],
                        ["ID_9", "t_a", "t_b", "new_turtle", "", ""]]  # by the counts in train: 2, 2, and 1 and 1


def test_an_unknown_rule_is_told(tmp_path):
    done = run_command("make_submission.py", "--open_set=last", cwd=tmp_path)
    assert_one_line_mistake(done, "open_set", "first", "sum")


def test_sample():
    table = read(raw_data.samples("turtle_mini"))
    assert table.examples["split"].value_counts().to_dict() == {"train": 481, "test": 125}
    assert (len(table.classes), sum(table.known)) == (45, 20)
    assert table.classes == sorted(table.classes)


# -- MAP@5 over all ids and over the answers ---------------------------------------------------------------------------

IDS = ["t_Z", "t_a", "t_b", "t_c"]  # t_a and t_b are known
TRUTH = {"ID_1": 2, "ID_2": 1, "ID_3": 2, "ID_4": 1, "ID_5": 0, "ID_6": 3}
LOGS = np.log(np.random.default_rng(5).dirichlet(np.ones(4), 6))


def map5_by_hand():
    """(over the four ids, over the three answers) of LOGS, by the definition."""
    closed, opened = [], []
    for (_, truth), row in zip(TRUTH.items(), LOGS.astype(np.float16).astype(float)):
        ranked = np.argsort(-row, kind="stable").tolist()
        answers = list(dict.fromkeys(IDS[one] if IDS[one] in ("t_a", "t_b") else "new_turtle" for one in ranked))
        closed.append(1 / (ranked.index(truth) + 1))
        opened.append(1 / (answers.index(IDS[truth] if IDS[truth] in answers else "new_turtle") + 1))
    return np.mean(closed), np.mean(opened)


@pytest.fixture(scope="module")
def folds_of_predictions(tmp_path_factory):
    """(records in two folds, a model directory with what each fold predicted of its pictures)."""
    folder = tmp_path_factory.mktemp("two_folds")
    build("turtle_recall", str(write_raw(folder / "raw")), str(folder / "records"), folds=2)
    data = dataset.load(str(folder / "records"))
    fold_of = data.examples("train").set_index("id")["fold"]
    for fold in range(2):
        ids = [one for one in TRUTH if fold_of[one] == fold]
        meta = {"examples": len(ids), "class_ids": IDS, "split": "train", "fold": fold, "tta": "none", "out_of_fold": False,
                "model_dir": str(folder / "m"), "dataset": {"classes": data.classes_digest()}, "seen": None}
        rows = LOGS[[list(TRUTH).index(one) for one in ids]]
        predictions.write(str(folder / "m" / f"fold_{fold}" / "out_of_fold"), [(ids, rows)], meta)
        scores = {} if fold else {"accuracy": 0.5, "top5": 1.0, "map5": 0.5}  # fold 0 finished when there was one map5
        files.write_json(str(folder / "m" / f"fold_{fold}" / "result.json"),
                         {"fold": fold, **scores, "epochs": [1], "minutes": 2.0})
    files.write_json(str(folder / "m" / "run.json"),
                     {"same": {"stage_order": [], "stages": {}}, "free": {"folds": 2, "stage_dirs": []}})
    return str(folder / "records"), str(folder / "m")


def test_the_table_of_folds_says_what_map5_is_over(folds_of_predictions, capsys):
    records, model_dir = folds_of_predictions
    fold_runs.print_table(records, model_dir, {})
    heading, first, second, everything, _ = capsys.readouterr().out.splitlines()
    columns = ["accuracy", "top5", "MAP@5 over 4 ids", "MAP@5 over 3 answers", "epochs", "minutes"]
    assert heading.split() == ["fold", *" ".join(columns).split()]
    closed, opened = map5_by_hand()
    told = everything.split()
    assert told[0] == "all" and [float(one) for one in told[3:5]] == pytest.approx([closed, opened], abs=6e-5)
    assert len({len(line) for line in (heading, first, second, everything)}) == 1
    sizes = [len(predictions.Predictions(f"{model_dir}/fold_{fold}/out_of_fold").ids) for fold in range(2)]
    for column in (3, 4):  # of each fold by itself
        assert np.average([float(line.split()[column]) for line in (first, second)], weights=sizes) == pytest.approx(
            float(told[column]), abs=1e-4)


def test_scores_say_what_map5_is_over(folds_of_predictions, tmp_path):
    records, model_dir = folds_of_predictions
    fold_runs.print_table(records, model_dir, {})
    done = run_command("evaluate.py", f"--data_dir={records}", f"--predictions={model_dir}/out_of_fold",
                       f"--out={tmp_path}/scores.json", f"--report={tmp_path}/report.html")
    assert done.returncode == 0, done.stderr
    closed, opened = map5_by_hand()
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert (scores["map5_over_ids"], scores["map5_over_answers"]) == pytest.approx((closed, opened))
    assert (scores["map5"], scores["open_set_first"]) == pytest.approx((closed, opened))  # as they were called before
    for text in ("MAP@5 over 4 ids", "MAP@5 over 3 answers", "MAP@5 over 3 answers by sum"):
        assert text in done.stdout and text in (tmp_path / "report.html").read_text()
    assert f"the competition's own map5 (MAP@5 over 3 answers): {opened:.4f}" in done.stdout
