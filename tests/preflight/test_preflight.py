"""preflight.py without its compiler: a recipe's steps, the roofline, the batch that fits, the table."""

import dataclasses
import json
import sys

import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.preflight import all_recipes, compiler, environment, host_rate, recipe, roofline, rows, steps, table
from pipeline.preflight.compiler import Compiled
from pipeline.preflight.lowering import Program
from pipeline.preflight.rows import Request, Row
from pipeline.runs import run as runs
from pipeline.tasks import registry as tasks
import raw_data
import training_runs

REQUEST_FLAGS = ("--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.1")


# A recipe's steps


def a_run(*stages, **changes):
    fields = {"data_dir": "", "model_dir": "", "model": "kecam/EfficientNetV2Tiny", "stages": stages, **changes}
    return steps.Run(**fields)


def test_steps_of_two_stages():
    run = a_run(training_runs.stage(name="first", batch_size=64), training_runs.stage(name="second", size=48, batch_size=32),
                tta="six")
    planned = [(step.stage.name, step.kind, step.batch, step.views.name) for step in steps.plan(run, 8)]
    assert planned == [("first", "train", 8, "none"), ("first", "validate", 8, "none"), ("second", "train", 4, "none"),
                       ("second", "validate", 4, "none"), ("second", "predict", 4, "six")]


def test_a_probe_takes_no_training_step():
    run = a_run(training_runs.stage(name="probe", train="probe", batch_size=16, loss=None), training_runs.stage(loss="focal"))
    planned = [(step.stage.name, step.kind) for step in steps.plan(dataclasses.replace(run, stages=run.stages[:1]), 8)]
    assert planned == [("probe", "validate"), ("probe", "predict")]
    competition = steps.Competition.of(run, None)
    assert competition.task == tasks.MULTI_LABEL  # by the stage that has a loss of its own
    run = runs.for_task(run, competition.task)
    assert steps.Programs(run, competition, 8).make(steps.plan(run, 8)[0], 2).serialized


@pytest.mark.parametrize("changes, of_run", [
    ({"mixup": 0.2, "ema": 0.99, "logit_adjust": 1.0}, {}),
    ({"loss": "focal", "mixup": 0.2, "train": "last:6", "lr_schedule": "plateau:0.5:4"}, {}),
    ({"loss": "arcface", "mixup": 0.2, "logit_adjust": 0.5}, {"pool": "gem", "embedding_dim": 8, "arcface_subcentres": 2}),
])
def test_every_kind_of_step_has_a_program(changes, of_run):
    run = a_run(training_runs.stage(batch_size=16, **changes), num_classes=5, tta="six", precision="mixed_bfloat16", **of_run)
    try:
        programs = steps.Programs(run, steps.Competition.of(run, None), 8)
        made = [programs.make(step, step.batch) for step in steps.plan(run, 8)]
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")
    assert len({program.serialized for program in made}) == 3


def test_what_a_recipe_tells_of_its_competition(tiny_data):
    assert steps.Competition.of(a_run(training_runs.stage(), num_classes=5), None) == steps.Competition(5, tasks.SINGLE_LABEL, False)
    assert steps.Competition.of(a_run(training_runs.stage(loss="focal")), None) == steps.Competition(1000, tasks.MULTI_LABEL, True)
    assert steps.Competition.of(a_run(training_runs.stage(), num_classes=5), tiny_data) == steps.Competition(3, tasks.SINGLE_LABEL, False)


def test_the_hosts_rate_on_data(tiny_data, monkeypatch):
    monkeypatch.setattr(host_rate, "SECONDS", 0.2)
    run = a_run(training_runs.stage(batch_size=8))
    for step in steps.plan(run, 8):
        assert host_rate.measure(step, tiny_data.part("train"), 8) > 0


# The roofline


def test_cores_of_a_topology():
    core, count = roofline.find("v3:2x2")
    assert count == 8 and core.memory == pytest.approx(15.48 * 2**30, abs=1)
    assert [roofline.find(topology)[1] for topology in ("v2:2x2", "v3:4x4", "v4:2x2x1", "v5e:2x4")] == [8, 32, 8, 8]
    for wrong in ("v9:2x2", "v3", "v3:2x", "v3:0x2", "v3:²x2"):
        with pytest.raises(UserError, match="v3"):
            roofline.find(wrong)


def test_a_step_takes_the_longer_of_both():
    core, _ = roofline.find("v3:2x2")
    assert roofline.step_seconds(core, flops=122e9, moved_bytes=0.45e9) == pytest.approx(2e-3)
    assert roofline.step_seconds(core, flops=61e9, moved_bytes=1.35e9) == pytest.approx(3e-3)


@pytest.mark.parametrize("start", [1, 4, 7, 32])
def test_the_largest_batch_is_what_trying_all_gives(start):
    for limit in (0, 1, 3, 6, 7, 8, 100, 4096, 5000):
        assert rows.largest(lambda batch: batch <= limit, start) == min(limit, 4096)


# Compiling, with a stand-in for the TPU's compiler

STAND_IN = """
import json, os, sys
_, program, topology, result = sys.argv
with open(os.environ["CALLS"], "a") as file:
    file.write(topology + "\\n")
answer = json.loads(os.environ["ANSWER"])
if answer is not None:
    json.dump(answer, open(result, "w"))
else:
    sys.exit("first line\\nno such chip")
"""
GIB = 2**30


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    monkeypatch.setattr(environment, "python", lambda: sys.executable)
    monkeypatch.setattr(compiler, "COMPILE_PROGRAM", str(script))
    monkeypatch.setenv("CALLS", str(tmp_path / "calls"))

    def answers(answer):
        monkeypatch.setenv("ANSWER", json.dumps(answer))
        return lambda: (tmp_path / "calls").read_text().split()

    return answers


def test_nothing_is_compiled_twice(stand_in, tmp_path):
    calls = stand_in({"arguments": GIB, "temporaries": 2 * GIB, "outputs": 3, "code": 4, "flops": 5.0})
    cache = str(tmp_path / "cache")
    first = compiler.Compiler("v3:2x2", cache).compile(Program(b"one"))
    assert first.memory == 3 * GIB + 7 and first.flops == 5
    assert compiler.Compiler("v3:2x2", cache).compile(Program(b"one")) == first
    compiler.Compiler("v3:2x2", cache).compile(Program(b"other"))
    compiler.Compiler("v2:2x2", cache).compile(Program(b"one"))
    assert calls() == ["v3:2x2", "v3:2x2", "v2:2x2"]


def test_a_compiler_that_dies_is_told_in_a_line(stand_in, tmp_path):
    stand_in(None)
    with pytest.raises(UserError, match="ended with 1 and no result: no such chip"):
        compiler.Compiler("v3:2x2", str(tmp_path / "cache")).compile(Program(b"one"))
    stand_in({"unknown_topology": "INVALID_ARGUMENT: 3x1"})
    with pytest.raises(UserError, match="--topology=v3:3x1.*INVALID_ARGUMENT"):
        compiler.Compiler("v3:3x1", str(tmp_path / "cache")).compile(Program(b"one"))
    assert not (tmp_path / "cache").exists()


def all_rows(tmp_path, run, **changes):
    request = Request("v3:2x2", str(tmp_path / "cache"), **changes)
    return [list(some) for some in rows.compiled(run, "a/recipe", None, request)]


def test_rows_come_one_by_one(stand_in, tmp_path):
    stand_in({"temporaries": GIB, "flops": 61e9, "moved_bytes": 1.0})
    run = a_run(training_runs.stage(batch_size=16), num_classes=5)
    came = all_rows(tmp_path, run)
    assert [[row.result is not None for row in some] for some in came] == [
        [False] * 3, [True, False, False], [True, True, False], [True] * 3]
    train, _, predict = came[-1]
    assert train.asked == pytest.approx(8 * 2 / 1e-3) and train.problem == ""
    assert predict.asked == pytest.approx(8 * 4 / 1e-3)
    assert "unfinished: 2 of 3 steps" in table.render(came[1], "v3:2x2")
    assert "unfinished" not in table.render(came[-1], "v3:2x2")


def test_what_does_not_fit(stand_in, tmp_path):
    run = a_run(training_runs.stage(batch_size=16), num_classes=5)
    stand_in({"temporaries": 15 * GIB, "arguments": GIB, "flops": 1.0})
    assert all_rows(tmp_path / "a", run)[-1][0].problem == "needs 16.00 GiB, and a core has 15.48"
    stand_in({"error": "RESOURCE_EXHAUSTED: 22.45G exceeds 15.48G", "out_of_memory": True})
    row = all_rows(tmp_path / "b", run, fit=True)[-1][0]
    assert row.problem.startswith("RESOURCE_EXHAUSTED") and row.largest_batch == 0 and row.asked is None
    stand_in({"error": "INTERNAL: no such instruction"})
    assert all_rows(tmp_path / "c", run, fit=True)[-1][0].largest_batch is None


def test_micro_batches_are_a_loop_that_the_compiler_counts_once(stand_in, tmp_path):
    stand_in({"temporaries": GIB, "flops": 61e9, "moved_bytes": 3.0})
    run = a_run(training_runs.stage(batch_size=64, accumulate=4), num_classes=5)
    train, validate, _ = all_rows(tmp_path, run)[-1]
    assert (train.result.flops, train.result.moved_bytes, train.asked) == (4 * 61e9, 12.0, pytest.approx(8 * 8 / 4e-3))
    assert validate.result.flops == 61e9


def test_a_batch_that_cores_cannot_share():
    run = a_run(training_runs.stage(batch_size=12), num_classes=5)
    with pytest.raises(UserError, match="--batch_size=12 is not divisible by the 8 cores of v3:2x2"):
        rows.planned(run, steps.Competition.of(run, None), "recipe", "v3:2x2")
    run = a_run(training_runs.stage(batch_size=24, accumulate=4), num_classes=5)
    with pytest.raises(UserError, match="8 cores of v3:2x2 times --accumulate=4"):
        rows.planned(run, steps.Competition.of(run, None), "recipe", "v3:2x2")


# The table, and all recipes


DONE = Row("a/b", "all", "train", 300, 32, result=Compiled(temporaries=GIB // 2, flops=413e9, moved_bytes=28.7e9), asked=4013.9)


def test_the_table_shows_the_figures():
    text = table.render([DONE, dataclasses.replace(DONE, step="predict", views=6, result=None, asked=None)], "v3:2x2")
    lines = text.splitlines()
    assert [cell.strip() for cell in lines[2].strip("|").split("|")] == [
        "a/b", "all", "train", "300", "32", "yes", "0.500", "413", "28.7", "63.8", "4,014"]
    assert "32 × 6" in lines[3] and "…" in lines[3]
    assert len({len(line) for line in lines[:4]}) == 1
    assert "unfinished: 1 of 2" in lines[-1]


def test_the_table_tells_problems_and_what_was_assumed():
    text = table.render([dataclasses.replace(DONE, result=None, problem="Where gives …: step.py:3 in call"),
                         dataclasses.replace(DONE, assumed_classes=1000)], "v3:2x2")
    assert "a/b, stage all, train: Where gives …: step.py:3 in call" in text.splitlines()
    assert "taken for 1,000 classes, as they name no --num_classes: a/b" in text
    assert "unfinished" not in text


def test_recipes_are_flagfiles_with_stages(tmp_path):
    for name, text in {"b.flags": "--stage=name=x", "a/c.flags": "# no\n--stage=name=x", "over.flags": "--tpu=none",
                       "a/ours/c.flags": "--flagfile=configs/a/c.flags\n--tta=flip", "a/run.flags": "--recipes=configs/a/c.flags",
                       "d.txt": "--stage=name=x", "overrides/tpu/a.flags": "--tpu=local"}.items():
        raw_data.write(tmp_path / name, text.encode())
    found = [tuple(path.removeprefix(str(tmp_path)) for path in paths) for paths in all_recipes.flagfiles(str(tmp_path))]
    assert found == [("/a/c.flags", "/overrides/tpu/a.flags"), ("/a/ours/c.flags", "/overrides/tpu/a.flags"), ("/b.flags",)]


def test_rows_outlive_the_process(tmp_path):
    request = Request("v3:2x2", str(tmp_path))
    saved = [DONE, dataclasses.replace(DONE, result=None, problem="…")]
    recipe.save(saved, request, "a/b + c")
    assert recipe.load(request, "a/b + c") == saved
    assert recipe.load(request, "a/b") == []


def test_a_recipes_name():
    paths = recipe.flagfiles(["--flagfile=/x/configs/a/b.flags", "--fit", "-flagfile=configs/overrides/tpu/a.flags"])
    assert recipe.name(paths) == "a/b + tpu/a"
    assert recipe.name(recipe.flagfiles(["--batch_size=8"])) == ""


# The command


@pytest.mark.parametrize("flags, told", [
    (("--topology=v9:2x2",), "v2, v3, v4, v5e"),
    (("--topology=v3:two",), "--topology=v3:two"),
    (("--batch_size=12",), "--batch_size=12"),
    (("--model=kecam/none",), "kecam/none"),
])
def test_mistakes_take_one_line(flags, told, tmp_path):
    done = raw_data.run_command("preflight.py", *REQUEST_FLAGS, f"--cache_dir={tmp_path}", *flags)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
