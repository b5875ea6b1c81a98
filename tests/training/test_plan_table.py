"""What --dry_run prints of the stages, and the line of an epoch."""

import math
import os

import pytest
import tensorflow as tf

from pipeline import terminal
from pipeline.models import zoo
from pipeline.runs import run as runs
from pipeline.training import callbacks, plan_table, train
from training_runs import run, stage


@pytest.fixture
def network():
    """Parameters of the base, of the three classes' head, and those that train in the base's last six layers; and what these
    put out for a picture of 64 px."""
    base = zoo.build_base("kecam/EfficientNetV2Tiny", 64)
    layers = base.layers[-6:]
    found = tf.keras.Model(base.inputs, [one.output for one in layers])(tf.zeros([1, 64, 64, 3]))
    of_last = sum(math.prod(one.shape) for layer in layers for one in layer.trainable_weights)
    return base.count_params(), (base.output_shape[-1] + 1) * 3, of_last, sum(int(tf.size(one)) for one in found)


@pytest.mark.slow
def test_stages_with_parameters_memory_and_what_is_skipped(network, tiny_data, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(plan_table, "_MIB", 1)
    whole, head, of_last, outputs = network
    two = run(tiny_data, tmp_path / "m", stage(name="head", train="head", optimizer="sgd", lr=0.1),
              stage(name="last", train="last:6", optimizer="adamw", ema=0.9, size=64), max_steps=1)
    strategy = train.make_devices(two)
    table = plan_table.stages_table(runs.for_task(two, tiny_data.task), tiny_data, strategy).set_index("stage")
    everything = whole + head
    assert list(table["parameters"]) == [f"{plan_table._short(one)} of {plan_table._short(everything)}"
                                         for one in (head, head + of_last)]
    # float32: all variables, of what trains its gradient and sgd's momentum, or adam's two moments; all again for the average
    values = everything + 2 * head, 2 * everything + 3 * (head + of_last)
    assert list(table["state MiB"]) == [f"{4 * one:,}" for one in values]
    assert list(table["activations MiB"]) == ["0", f"{4 * 10 * outputs:,}"]  # batches of 10
    assert list(table["px"]) == ["32", "64"] and list(table["now"]) == ["to do", "to do"] and table["rate"]["head"] == "0.1"
    assert table["steps"]["head"] == f"1 ({tiny_data.part('train').size // 10} an epoch)"

    train.run_training(two)
    assert capsys.readouterr().out.count("\n") == 2  # a line an epoch
    os.remove(tmp_path / "m" / "stage_2_last" / "DONE")
    train.run_training(runs.dataclasses.replace(two, dry_run=True))
    told = capsys.readouterr().out
    assert f"{tiny_data.directory}: " in told and "1 replica(s) on CPU" in told and "3, one label a picture" in told
    rows = {line.split()[0]: line for line in told.splitlines() if line.strip()}
    assert rows["head"].endswith("finished: skipped") and rows["last"].endswith("goes on at 1 of 1")
    with pytest.raises(train.run_record.UserError, match="holds another run: random_seed"):
        train.run_training(runs.dataclasses.replace(two, dry_run=True, random_seed=5))


def test_the_line_of_an_epoch(monkeypatch, capsys):
    """20 steps of 10 pictures an epoch, the first of them slow, 0.1 s a step; 5 s of validation."""
    clock = [0.0]
    monkeypatch.setattr(callbacks.time, "monotonic", lambda: clock[0])
    plan = runs.Plan(4, 1.0, 20, 20, 80, 80, 0, 2)
    told = callbacks.Progress("stage all, fold 1", plan, 10, later_pictures=400)
    told.set_params({"steps": 20})
    told.on_train_begin()
    told.on_epoch_begin(0)
    for batch in range(20):
        clock[0] += 0.1 if batch else 30
        told.on_train_batch_end(batch)
    told.on_test_begin()
    for batch in range(2):
        clock[0] += 2.5
        told.on_test_batch_end(batch)
    logs = {"loss": 1.23456, "accuracy": 0.5, "top5": 0.9, "val_loss": tf.constant(2.0), "val_accuracy": 0.25, "lr": 0.01}
    told.on_epoch_end(0, logs)
    # 19 steps took 1.9 s, and 6.9 s with the validation: 60 are left, and 40 of the next stage.
    left, of_all = (int(steps * 6.9 / 19) for steps in (60, 100))
    assert capsys.readouterr().out == (f"stage all, fold 1, epoch 1/4: loss 1.235, val 2, top-1 0.5, val 0.25, rate 0.01, 100 "
                                       f"images/s, 0:00:{left} to go, all about 0:00:{of_all}\n")


@pytest.mark.parametrize("environment, has", [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True),
                                              ({"TERM": "dumb"}, False)])
def test_no_color(environment, has, monkeypatch):
    class Terminal:
        def isatty(self):
            return True

    for name in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert terminal.bold("word", Terminal()) == ("\033[1mword\033[0m" if has else "word")
    with open(os.devnull, "w", encoding="utf-8") as file:
        assert terminal.bold("word", file) == "word"
