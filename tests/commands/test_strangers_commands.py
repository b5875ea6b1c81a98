"""--hold_out_classes, what evaluate.py tells of it, and --open_set=fit through the commands."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest

import raw_data
from pipeline.answers import open_set, predictions
from pipeline.experiment import fold_runs
from pipeline.records import dataset
from raw_data import assert_one_line_mistake, run_command, write

pytestmark = pytest.mark.slow  # two models by two folds
PROBE = ("--model=kecam/EfficientNetV2Tiny", "--stage=name=probe,size=32,train=probe", "--batch_size=16")
KNOWN, EXTRA = [f"k_{number}" for number in range(6)], [f"x_{number:02}" for number in range(10)]


def write_raw(folder):
    """Sixteen individuals of a colour each, six pictures each, and four test pictures."""
    tables = {"train.csv": "image_id,image_location,turtle_id\n", "extra_images.csv": "image_id,turtle_id\n",
              "test.csv": "image_id,image_location\n"}
    for number in range(100):
        whose = [*KNOWN, *EXTRA][number % 16]
        rng = np.random.default_rng(number)
        colour = np.random.default_rng(1000 + number % 16).integers(0, 256, 3)
        pixels = np.clip(colour + rng.normal(0, 40, (32, 32, 3)), 0, 255).astype(np.uint8)
        write(folder / "images" / f"ID_{number:03}.jpg", raw_data.encode(pixels))
        name = "test.csv" if number >= 96 else "train.csv" if whose in KNOWN else "extra_images.csv"
        tables[name] += f"ID_{number:03}" + {"test.csv": ",top", "train.csv": f",top,{whose}"}.get(name, f",{whose}") + "\n"
    for name, text in tables.items():
        write(folder / name, text.encode())


def ok(done):
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(records, a model by two folds that leave out half of the extra individuals, one that leaves out none)."""
    folder = tmp_path_factory.mktemp("trained_by_strangers")
    write_raw(folder / "raw")
    records = folder / "records"
    ok(run_command("create_tfrecords.py", "--competition=turtle_recall", f"--data_dir={folder / 'raw'}",
                   f"--out_dir={records}", "--folds=2"))
    for name, flags in (("model", ["--hold_out_classes=0.5"]), ("plain", [])):
        for fold in range(2):
            ok(run_command("multi_stage_train.py", f"--data_dir={records}", f"--model_dir={folder / name}", f"--fold={fold}",
                           *PROBE, *flags))
        fold_runs.print_table(str(records), str(folder / name), {})
        ok(run_command("predict.py", f"--data_dir={records}", f"--model_dir={folder / name}", "--split=test",
                       f"--out={folder / name / 'predictions/test'}"))
    return dataset.load(str(records)), folder / "model", folder / "plain"


def by_hand(data, model_dir, rule):
    """MAP@5 over the answers of known, seen and unseen pictures by a rule; nobody of the known plays a stranger here."""
    table = data.examples("train").set_index("id")
    left_out = json.loads((model_dir / "run.json").read_text())["seen"]["strangers"]
    known = np.array([one.known for one in data.manifest.classes])
    found = {"known": [], "seen strangers": [], "unseen strangers": []}
    for folder in ("out_of_fold", "strangers"):
        one = predictions.Predictions(str(model_dir / folder))
        answers = open_set.rank(one.rows(np.arange(len(one.ids))), known, 5, rule)
        for name, row in zip(one.ids, answers.tolist()):
            label = table["labels"][name][0]
            strange = folder == "strangers" or data.class_ids[label] in left_out[str(table["fold"][name])]
            truth = label if known[label] else open_set.UNKNOWN
            kind = "known" if known[label] else "unseen strangers" if strange else "seen strangers"
            found[kind].append(1 / (row.index(truth) + 1) if truth in row else 0)
    return {kind: (len(scores), np.mean(scores)) for kind, scores in found.items()}


def test_scores_are_told_apart_and_a_rule_is_chosen(trained, tmp_path):
    data, model_dir, _ = trained
    told = ok(run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={model_dir}/out_of_fold",
                          "--stranger_share=0.4", f"--out={tmp_path}/s.json"))
    scores = json.loads((tmp_path / "s.json").read_text())
    found = scores["open_set"]
    for rule in ("first", "sum"):
        for kind, (count, score) in by_hand(data, model_dir, rule).items():
            assert found["pictures"][kind] == count and found["rules"][rule][kind] == pytest.approx(score)
        expected = 0.4 * found["rules"][rule]["unseen strangers"] + 0.6 * found["rules"][rule]["known"]
        assert found["rules"][rule]["mixture"] == pytest.approx(expected)
    assert found["pictures"]["known"] == 36 and found["pictures"]["unseen strangers"] == 60
    assert found["pictures"]["seen strangers"] + scores["examples"] - 36 > 0
    assert scores["examples"] == 36 + found["pictures"]["seen strangers"]  # strangers are in no closed-set score
    assert f"{found['fit']['expected']:.4f}" in told and "0.4 of the pictures are of strangers" in told
    value = run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={model_dir}/out_of_fold",
                        f"--open_set={found['fit']['rule']}", "--stranger_share=0.4", f"--out={tmp_path}/t.json")
    ok(value)
    again = json.loads((tmp_path / "t.json").read_text())["open_set"]["rules"]
    assert again[found["fit"]["rule"]]["mixture"] >= max(again[rule]["mixture"] for rule in ("first", "sum")) - 1e-9


def test_neighbours_are_not_said_to_have_answered_what_the_head_was_asked(trained, tmp_path):
    data, model_dir, _ = trained
    ok(run_command("predict.py", f"--data_dir={data.directory}", f"--model_dir={model_dir}", "--split=train", "--neighbours=3",
                   f"--out={tmp_path}/near"))
    ok(run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={model_dir}/out_of_fold",
                   f"--predictions={tmp_path}/near", "--blend=1:1", f"--out={tmp_path}/s.json"))
    found = json.loads((tmp_path / "s.json").read_text())["open_set"]
    head, near = (predictions.Predictions(str(one)) for one in (model_dir / "out_of_fold", tmp_path / "near"))
    known = np.array([one.known for one in data.manifest.classes])
    order = [near.ids.index(one) for one in head.ids]
    blended = np.log((np.exp(head.rows(np.arange(len(order)))) + np.exp(near.rows(np.array(order)))) / 2)
    answers = dict(zip(head.ids, open_set.rank(blended, known, 5, "first").tolist()))
    left_out = json.loads((model_dir / "run.json").read_text())["seen"]["strangers"]
    table = data.examples("train").set_index("id")
    strange = [one for one in head.ids if data.class_ids[table["labels"][one][0]] in left_out[str(table["fold"][one])]]
    assert found["pictures"]["unseen strangers"] == len(strange) < 60
    scores = [1 / (answers[one].index(open_set.UNKNOWN) + 1) if open_set.UNKNOWN in answers[one] else 0 for one in strange]
    assert found["rules"]["first"]["unseen strangers"] == pytest.approx(np.mean(scores), abs=1e-6)


def test_what_is_left_out_is_told_and_seen_by_nobody(trained):
    data, model_dir, plain = trained
    told = json.loads((model_dir / "run.json").read_text())["seen"]["strangers"]
    assert sorted(told["0"] + told["1"]) == EXTRA and len(told["0"]) == 5
    for folder in ("out_of_fold", "strangers"):
        meta = json.loads((model_dir / folder / "meta.json").read_text())
        assert meta["seen"]["strangers"] == told and meta["seen"]["pictures"] == 0
    rows = np.load(model_dir / "fold_0/stage_1_probe/features/rows-000000000.npy")
    table = data.examples("train").set_index("row")
    assert not {data.class_ids[one[0]] for one in table.loc[rows, "labels"]} & set(told["0"])
    assert set(table.loc[rows, "fold"]) == {1}
    assert not (plain / "strangers").exists() and "strangers" not in json.loads((plain / "run.json").read_text())["seen"]


def test_a_submission_takes_the_rule_that_fits_the_same_models(trained, tmp_path):
    data, model_dir, plain = trained
    flags = (f"--data_dir={data.directory}", f"--out={tmp_path}/s.csv")
    told = ok(run_command("make_submission.py", *flags, f"--predictions={model_dir}/predictions/test", "--open_set=fit"))
    evaluated = ok(run_command("evaluate.py", f"--data_dir={data.directory}", f"--predictions={model_dir}/out_of_fold",
                               "--open_set=fit"))
    line = next(one for one in told.splitlines() if one.startswith("open set: "))
    assert line in evaluated
    rule = line.removeprefix("open set: ").split(";")[0]
    test = predictions.Predictions(str(model_dir / "predictions/test"))
    known = np.array([one.known for one in data.manifest.classes])
    answers = open_set.rank(test.rows(np.arange(len(test.ids))), known, 5, rule)
    texts = [*data.class_ids, "new_turtle"]
    with open(tmp_path / "s.csv", newline="", encoding="utf-8") as file:
        found = {row[0]: row[1:] for row in list(csv.reader(file))[1:]}
    assert found == {name: [texts[one] for one in row] for name, row in zip(test.ids, answers)}
    done = run_command("make_submission.py", *flags, f"--predictions={plain}/predictions/test", "--open_set=fit")
    assert_one_line_mistake(done, "--open_set=fit", str(plain), "--hold_out_classes")


def test_what_cannot_be_is_one_line(trained, tiny_data, tmp_path):
    data, model_dir, plain = trained
    train = ("multi_stage_train.py", f"--data_dir={data.directory}", *PROBE)
    half = ("--fold=0", "--hold_out_classes=0.5")
    done = run_command(*train, f"--model_dir={tmp_path}/m", "--hold_out_classes=0.2")
    assert_one_line_mistake(done, "--hold_out_classes=0.2", "--fold")
    assert_one_line_mistake(run_command(*train, f"--model_dir={plain}", *half), "hold_out_classes")
    done = run_command(*train, f"--model_dir={tmp_path}/m", f"--init_from={plain}", *half)
    assert_one_line_mistake(done, "--init_from", str(plain), "--allow_seen")
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m", *PROBE,
                       "--fold=0", "--hold_out_classes=0.2")
    assert_one_line_mistake(done, "--hold_out_classes=0.2", tiny_data.directory)
    both = [f"--predictions={one}/out_of_fold" for one in (model_dir, plain)]
    assert_one_line_mistake(run_command("evaluate.py", f"--data_dir={data.directory}", *both, "--open_set=fit"),
                            "--open_set=fit", "different classes")
    told = ok(run_command("evaluate.py", f"--data_dir={data.directory}", both[1]))
    assert "--hold_out_classes=0.2" in told


def test_the_benchmark_of_a_recipe_tells_what_came_true(tmp_path):
    write_raw(tmp_path / "raw")
    (tmp_path / "probe.flags").write_text("\n".join(PROBE) + "\n")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.strangers_by_recipe", f"--data_dir={tmp_path / 'raw'}", "--left_out=4", "--folds=2",
         f"--recipe={tmp_path / 'probe.flags'}", "--hold_out_classes=0.5", f"--out_dir={tmp_path / 'out'}", "--kept=0.3"],
        cwd=raw_data.REPOSITORY, capture_output=True, text=True, timeout=600, check=False)
    cells = [cell.strip() for cell in ok(done).splitlines()[-1].split("|")[1:-1]]
    made, owner = tmp_path / "out" / "draw_0", {f"ID_{number:03}": [*KNOWN, *EXTRA][number % 16] for number in range(96)}
    with open(made / "submission.csv", newline="", encoding="utf-8") as file:
        answered = [list(row.values()) for row in csv.DictReader(file)]
    labelled = (made / "raw" / "train.csv").read_text() + (made / "raw" / "extra_images.csv").read_text()
    assert not [one for one, *_ in answered if one in labelled]
    assert len({owner[one] for one, *_ in answered} - set(KNOWN)) == 4
    scores = {True: [], False: []}  # by whether it is new
    for one, *answers in answered:
        right = owner[one] if owner[one] in KNOWN else "new_turtle"
        scores[right == "new_turtle"].append(sum(right == answer and 1 / rank for rank, answer in enumerate(answers, 1)))
        assert owner[one] in KNOWN or owner[one] not in labelled
    assert len(scores[True]) == 24
    assert float(cells[3]) == pytest.approx(np.mean(scores[True]) / 3 + np.mean(scores[False]) * 2 / 3, abs=1e-3)
    told = json.loads((made / "scores.json").read_text())["open_set"]["fit"]
    assert cells[1] == told["rule"] and float(cells[2]) == pytest.approx(told["expected"], abs=1e-3)
