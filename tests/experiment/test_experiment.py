"""An experiment as plain data: flags as text, layers of settings, what a step depends on, who is scored with whom."""

import dataclasses
import os

from absl import flags
import pytest

from pipeline.errors import UserError
from pipeline.experiment import auto, digests, flag_text, members, settings, stamps
from pipeline.experiment.members import Group, Member
from pipeline.experiment.stamps import Step
from pipeline.records import schema


# Flags as text

def test_flagfiles_stand_in_their_place(tmp_path):
    (tmp_path / "inner.flags").write_text("--lr=2\n# --lr=3\n--stage=name=b\n")
    (tmp_path / "outer.flags").write_text(f"--lr=1\n--stage=name=a\n--flagfile={tmp_path}/inner.flags\n")
    values = flag_text.resolve([f"--flagfile={tmp_path}/outer.flags", "--tpu", "local", "--dry_run", "-fold=0:2"])
    assert values == {"lr": ["1", "2"], "stage": ["name=a", "name=b"], "tpu": ["local"], "dry_run": [""], "fold": ["0:2"]}
    assert flag_text.last(values, "lr") == "2" and flag_text.last(values, "model") is None
    settled = flag_text.settled(["--b=1", "--a=1", "--b=2", "--stage=x", "--stage=y"])
    assert settled == {"a": "1", "b": "2", "stage": ["x", "y"]}


def test_differences_name_the_flags():
    old, new = ({"lr": "1", "stage": ["a", lines], "same": "x"} for lines in ("b", "c"))
    assert flag_text.differences(old, {**new, "ema": "0.9"}) == [
        "--stage: b before, c now", "--ema: not given before, 0.9 now"]
    assert flag_text.differences(old, dict(old)) == []


# Layers of settings

@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project's folder with a competition `mine`, and another's recipe."""
    monkeypatch.chdir(tmp_path)
    for path, text in {"configs/base.flags": "--model=base", "configs/mine/a.flags": "--model=a",
                       "configs/mine/b.flags": "--model=b", "configs/mine/run.flags":
                       "--recipes=configs/mine/a.flags\n--folds=4\n--predict_flags=--size=8 --tta=flip\n"
                       "--prior_flags=--prior_correction=1\n--members=a\n",
                       "configs/geo_prior/mine.flags": "--epochs=1", "configs/probe.flags": "--fold=all",
                       "configs/small.flags": "--fold=all", "else/c.flags": "--fold=all",
                       "else/run.flags": "--folds=7"}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text + "\n")
    return tmp_path


def read(*arguments, competition="mine", **environment):
    values = flags.FlagValues()
    settings.define(values)
    values(["run.py", *arguments])
    return settings.read(competition, "DATA", "RUN", values, environment, str)


def test_flags_win_over_environment_over_run_flags(project):
    assert [recipe.name for recipe in read().recipes] == ["a"] and read().folds == 4
    assert read().passed_on["predict_flags"] == ["--size=8", "--tta=flip"]
    assert read().geo_prior == "configs/geo_prior/mine.flags"
    assert read(FOLDS="5", PREDICT_FLAGS="").folds == 5
    assert read("--folds=6", FOLDS="5").folds == 6
    assert read(GEO_PRIOR="none").geo_prior == "" and read(GEO_PRIOR="x.flags").geo_prior == "x.flags"
    assert read("--predict_flags=--weights='my file'").passed_on["predict_flags"] == ["--weights=my file"]
    with pytest.raises(UserError, match="FOLDS=many"):
        read(FOLDS="many")


def test_recipes_from_elsewhere_bring_their_own_run_flags(project):
    assert (read(RECIPES="else/c.flags").folds, read(RECIPES="else/c.flags").passed_on["predict_flags"]) == (7, [])
    assert read(RECIPES="configs/base.flags").folds is None
    assert read(RECIPES="configs/mine/b.flags").folds == 4  # of one's own, the same
    two = read("--recipes=else/c.flags", "--recipes=configs/mine/b.flags configs/mine/a.flags")
    assert [recipe.name for recipe in two.recipes] == ["c", "b", "a"]


@pytest.mark.parametrize("environment, competition", [({}, "other"), ({"RECIPES": "auto"}, "mine")])
def test_where_none_is_named_they_are_picked_later(project, environment, competition):
    found = read("--train_flags=--lr=2", competition=competition, **environment)
    assert (found.recipes, found.by_auto) == ((), True) and found.chosen.startswith("as ")
    assert found.folds is None and not found.passed_on["predict_flags"]  # of its own recipes
    assert found.passed_on["prior_flags"] == (["--prior_correction=1"] if environment else [])  # of its pictures
    picked = settings.with_recipes(found, auto.Picked(auto.BY_FOLDS, "why", ("--train_split=train_mini",)))
    assert [one.name for one in picked.recipes] == [one.name for one in picked.answering] == ["probe", "small"]
    assert picked.recipes[1].flags == {"fold": ["all"], "train_split": ["train_mini"], "lr": ["2"]}
    assert picked.passed_on["train_flags"] == ["--train_split=train_mini", "--lr=2"] and picked.chosen.endswith(": why")
    one = settings.with_recipes(dataclasses.replace(found, members="small"), auto.Picked(auto.BY_FOLDS, "why"))
    assert [one.name for one in one.answering] == ["small"]


def test_auto_stands_alone(project):
    with pytest.raises(UserError, match="--recipes=auto else/c.flags: auto stands alone"):
        read(RECIPES="auto else/c.flags")


def manifest(pictures, classes, labels=0, folds=5, split="train", multi_label=False):
    counts = [schema.ClassInfo(one, str(one), str(one), (labels or pictures) // classes) for one in range(classes)]
    counts[0] = dataclasses.replace(counts[0], train_count=counts[0].train_count + (labels or pictures) % classes)
    shards = [schema.Shard(name, name, None, 0, count, 9, "0") for name, count in ((split, pictures), ("test", 7))]
    return schema.Manifest("other", "fieldmark", multi_label, tuple(counts), tuple(shards), folds, 0, {})


@pytest.mark.parametrize("pictures, classes, labels, recipes", [
    (19_999, 10, 0, auto.BY_FOLDS), (20_000, 1_000, 0, (auto.BASE,)), (20_000, 1_001, 0, auto.BY_FOLDS),
    (20_000, 1_001, 40_000, (auto.BASE,)), (99_999, 50_000, 0, auto.BY_FOLDS), (100_000, 50_000, 0, (auto.BASE,))])
def test_few_pictures_are_trained_on_by_folds(pictures, classes, labels, recipes):
    found = auto.pick(manifest(pictures, classes, labels), [])
    assert found.recipes == recipes and f"{pictures:,} pictures of train, " in found.why and not found.train_flags


def test_what_stands_decides_first():
    assert auto.pick(manifest(30, 3, folds=0), []).recipes == (auto.BASE,)
    assert auto.pick(manifest(30, 3), ["base"]).recipes == (auto.BASE,)
    assert auto.pick(manifest(300_000, 3), ["small"]).recipes == auto.BY_FOLDS
    mini = auto.pick(manifest(30, 3, split="train_mini"), [])
    assert mini.train_flags == ("--train_split=train_mini",) and "30 pictures of train_mini, 10.0 a class" in mini.why


@pytest.mark.parametrize("pictures, folds", [(100_000, 5), (30, 0)])
def test_for_several_labels_there_is_none_without_folds(pictures, folds):
    with pytest.raises(UserError, match="--recipes=auto.*multi_label.*configs/small.flags"):
        auto.pick(manifest(pictures, 3, folds=folds, multi_label=True), [])
    assert auto.pick(manifest(30, 3, multi_label=True), []).recipes == auto.BY_FOLDS


def test_a_run_flags_with_another_flag_is_refused(project):
    (project / "configs" / "mine" / "run.flags").write_text("--lr=1\n")
    with pytest.raises(UserError, match="configs/mine/run.flags: .*lr"):
        read()


# What a step depends on

STEP = Step("predict m test", "predict.py", ("--size=8",), inputs=("file:in",), outputs=("file:out",), notes=("a",))


@pytest.fixture
def stamped(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in", "out"):
        (tmp_path / name).write_text(name)
    known = digests.Digests(lambda: "raw")
    stamps.end("run", STEP, {"file:in": known.of("file:in")}, known, 5.0)
    return tmp_path


def why(step=STEP):
    return stamps.why_stale(stamps.read("run", step), step, digests.Digests(lambda: "raw"))


def test_a_step_that_was_done_stands(stamped):
    assert why() is None
    os.utime(stamped / "in", (0, 0))
    assert why() is None
    assert why(dataclasses.replace(STEP, arguments=("--size=4", "--size=8"))) is None


@pytest.mark.parametrize("change, told", [
    ({"arguments": ("--size=9",)}, "--size: 8 before, 9 now"), ({"notes": ("b",)}, "what is told beside it has changed"),
    ({"inputs": ("file:in", "file:new")}, "changed: what it reads"), ({"name": "other"}, "looks")])
def test_another_step_is_to_be_done(stamped, change, told):
    assert told in why(dataclasses.replace(STEP, **change))


@pytest.mark.parametrize("name, told", [("in", "changed: file in"), ("out", "file out missing or changed")])
@pytest.mark.parametrize("text", ["out!", "", None])
def test_contents_decide(stamped, name, told, text):
    (stamped / name).unlink() if text is None else (stamped / name).write_text(text)
    assert why() == told


def test_a_step_that_was_begun_is_to_be_finished(stamped):
    begun = dataclasses.replace(STEP, arguments=("--size=9",))
    stamps.begin("run", begun)
    assert why() == "--size: 9 before, 8 now" and why(begun) == "begun, not finished"
    assert stamps.seconds_before("run", dataclasses.replace(STEP, name="predict n test"), [STEP]) == 5.0


def test_large_files_are_told_apart_by_size_and_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(digests, "WHOLE_LOCAL", 1 << 20)
    path = tmp_path / "large"
    path.write_bytes(bytes(5 << 20))
    before = digests.content(str(path))
    assert digests.content(str(path)) == before
    for position in (0, -1, 2 << 20):
        content = bytearray(5 << 20)
        content[position] = 1
        path.write_bytes(content)
        assert digests.content(str(path)) != before
    path.write_bytes(bytes((5 << 20) + 1))
    assert digests.content(str(path)) != before and digests.content(str(tmp_path / "none")) is None


# Who is scored with whom

def member(name, *held_out, split="train", asked=None):
    folds = held_out or (None,)
    return Member(name, name, split, held_out if asked is None else asked, folds, held_out, f"{name}/out_of_fold", total=3)


ALL = (0, 1, 2)


@pytest.mark.parametrize("those, has_val, found", [
    ([member("a", *ALL), member("b", *ALL)], True, [("out_of_fold", "ab")]),
    ([member("a", 0, 2)], True, [("out_of_fold", "a")]),
    ([member("a"), member("b")], True, [("val", "ab")]),
    ([member("a", *ALL), member("b")], True, [("val", "ab")]),
    ([member("a", *ALL), member("b", 0, 2)], True, [("val", "ab")]),
    ([member("a", *ALL, split="train+val"), member("b"), member("c")], True, [("val", "bc"), ("out_of_fold", "a")]),
    ([member("a", *ALL), member("b"), member("c", 0, 1)], False, [("out_of_fold", "a"), ("out_of_fold", "c")]),
    ([member("a")], False, []), ([], True, [])])
def test_members_are_scored_with_those_of_the_same_pictures(those, has_val, found):
    assert [(group.of, "".join(one.name for one in group.members)) for group in members.scored(those, has_val)] == found


def test_weights_are_fitted_where_all_can_be():
    a, b = member("a", *ALL), member("b", *ALL)
    assert members.blend_of([Group("out_of_fold", (a, b))], [a, b]) == "oof"
    assert members.blend_of([Group("out_of_fold", (a,))], [a]) == "equal"
    assert members.blend_of([Group("val", (a, b))], [a, b]) == "equal"
    assert members.blend_of([Group("out_of_fold", (a,)), Group("out_of_fold", (b,))], [a, b]) == "equal"


def test_what_a_member_lacks_is_told():
    assert dataclasses.replace(member("m", *ALL), standing=(0, 2)).missing == "m's fold 1"
    assert dataclasses.replace(member("m", *ALL), standing=(0,)).missing == "m's folds 1, 2"
    assert dataclasses.replace(member("m"), standing=()).missing == "m"
    assert member("m", 0, 2).missing == "" and member("m", 0, 2).told == "m (folds 0, 2 of 3)" and member("m").told == "m"
