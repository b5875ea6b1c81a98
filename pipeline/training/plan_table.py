"""What --dry_run prints: data, model and devices, and a table of the stages with what each trains, takes and skips."""

import textwrap
from typing import Optional

import numpy as np
import pandas as pd
import tensorflow as tf

from pipeline import terminal
from pipeline.devices import strategy as strategies
from pipeline.models import classifier as classifiers
from pipeline.records import dataset as datasets
from pipeline.runs import checkpoint, run as runs
from pipeline.runs.run import Run
from pipeline.runs.stages import Stage
from pipeline.training import run_checks, trainable

_FLOAT = 4  # bytes: variables, gradients and what optimizers keep are float32 whatever the step computes in
_MIB = 2 ** 20
_COLUMNS = 110
_MEMORY = ("On each replica. State: variables, gradients, what the optimizer and an average keep. Activations: an "
           "estimate, the outputs of all layers from the first that trains on, of a replica's part of a batch (XLA keeps fewer, "
           "a library's workspace comes on top); preflight.py compiles a recipe for a TPU and measures it.")


def text(run: Run, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> str:
    """The plan; the devices must stand, since the network is built (once, without its weights) to be counted."""
    held_out = runs.held_out_part(run, data)
    train = run.train_split if run.fold is None else f"{run.train_split} without fold {run.fold}"
    begins = run.weights if not run.init_from else f"those of {run.init_from}"
    head = {
        "data": f"{data.directory}: {runs.training_part(run, data).size:,} examples to train on ({train}), "
                + (f"{held_out.size:,} to validate" if held_out else "none held out"),
        "classes": f"{len(data.manifest.classes):,}, {data.task.labels} a picture",
        "model": f"{run.model}, weights {begins}, {run.precision}",
        "devices": strategies.describe(strategy, [stage.batch_size for stage in run.stages]),
        "writes to": runs.fold_dir(run.model_dir, run.fold),
    }
    width = max(map(len, head)) + 2
    lines = [terminal.bold(f"{name}:".ljust(width)) + told for name, told in head.items()]
    table = stages_table(run, data, strategy).to_string(index=False).split("\n")
    return "\n".join([*lines, "", terminal.bold(table[0]), *table[1:], "", textwrap.fill(_MEMORY, _COLUMNS)])


def stages_table(run: Run, data: datasets.Dataset, strategy: tf.distribute.Strategy) -> pd.DataFrame:
    """A row for each stage, all of it text."""
    tf.keras.backend.clear_session()
    with strategy.scope():
        built = trainable.build_classifier(run, run.stages[-1], len(data.manifest.classes), "none",
                                           run_checks.input_scaling(run))
    return pd.DataFrame([_row(run, stage, data, built, strategy.num_replicas_in_sync) for stage in run.stages])


def _row(run: Run, stage: Stage, data: datasets.Dataset, built: classifiers.Classifier, replicas: int) -> dict[str, str]:
    plan = runs.plan_stage(run, stage, data)
    classifiers.set_trainable(built, stage.train, stage.freeze_place)
    trained, everything = (_count(weights) for weights in (built.model.trainable_weights, built.model.weights))
    row = {"stage": stage.name, "trains": stage.train, "px": f"{stage.size}", "batch": f"{stage.batch_size}",
           "augment": stage.augment + (stage.randaugment and f" + {stage.randaugment}"),
           "parameters": f"{_short(trained)} of {_short(everything)}"}
    if stage.is_probe:
        return {**row, "augment": f"views {run.tta}", "epochs": "", "steps": "features once", "optimizer": "", "rate": "",
                "warm-up": "",
                "state MiB": f"{everything * _FLOAT / _MIB:,.0f}", "activations MiB": "", "now": _state(run, stage, 0)}
    state = everything * (2 if stage.ema else 1) + trained * (1 + _slots(stage) + (stage.accumulate > 1))
    batch = stage.batch_size / replicas / stage.accumulate
    values = _activations(built, stage) * (stage.size / run.stages[-1].size) ** 2 * batch
    return {**row, "epochs": f"{plan.epochs:g}", "steps": f"{plan.steps:,} ({plan.steps_per_epoch:g} an epoch)",
            "optimizer": stage.optimizer, "rate": f"{stage.peak_lr:.3g}",
            "warm-up": f"{plan.warmup_steps:,}", "state MiB": f"{state * _FLOAT / _MIB:,.0f}",
            "activations MiB": f"{values * (_FLOAT if run.precision == 'float32' else 2) / _MIB:,.0f}",
            "now": _state(run, stage, plan.steps)}


def _state(run: Run, stage: Stage, steps: int) -> str:
    """What stands of it in the model directory, and what the command would do."""
    folder = runs.stage_dir(run, stage)
    if runs.is_done(folder):
        return "finished: skipped"
    done = checkpoint.steps_done(folder)
    return "to do" if done is None else f"goes on at {done:,} of {steps:,}"


def _short(count: int) -> str:
    return f"{count / 1e6:,.3g}M" if count >= 1e6 else f"{count:,}"


def _count(weights) -> int:
    return sum(int(np.prod(one.shape)) for one in weights)


def _slots(stage: Stage) -> int:
    """How many values the optimizer keeps of each that it trains."""
    return int(bool(stage.momentum)) if stage.optimizer == "sgd" else 2


def _activations(built: classifiers.Classifier, stage: Stage) -> int:
    """Values of one picture that the layers put out, from the first that trains on."""
    layers = built.base.layers[classifiers.first_trained(built.base.layers, stage.train):]
    shapes = [shape for layer in layers for shape in _shapes(layer)]
    return sum(int(np.prod(shape[1:])) for shape in shapes if None not in shape[1:])


def _shapes(layer: tf.keras.layers.Layer) -> list[tuple[Optional[int], ...]]:
    if isinstance(layer, tf.keras.layers.InputLayer):
        return []
    if isinstance(layer, tf.keras.Model):
        return [shape for one in layer.layers for shape in _shapes(one)]
    found = layer.get_output_shape_at(0)
    return list(found) if isinstance(found, list) else [found]

