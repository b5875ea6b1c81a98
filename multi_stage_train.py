"""Trains a classifier in stages: python multi_stage_train.py --flagfile=configs/….flags --data_dir=… --model_dir=…"""

import os
import sys
from typing import TYPE_CHECKING, Optional, Sequence

from absl import flags

from pipeline import command, flag_help, preemption
from pipeline.flag_types import ALL_FOLDS, parse_folds, require
from pipeline.runs import stages
from pipeline.training import flags as training_flags, sixth_place, sixth_place_flags

if TYPE_CHECKING:
    from pipeline.runs import run as runs

FLAGS = flags.FLAGS
training_flags.define()
sixth_place_flags.define_training()
flag_help.usual("data_dir", "model_dir", "model", "weights", "stage", "fold", "train_split", "batch_size", "tta",
                "max_steps", "dry_run")


def _adopt_records() -> None:
    """Their flagfiles name TFRecords, ours a folder with a manifest: makes one beside the model, once."""
    from dataset_tools import adopt

    adopt.adopt(sixth_place.training_specs(), FLAGS.data_dir, "inat2021", FLAGS.num_classes,
                workers=os.cpu_count() or 1)


def _adopt_records_for(run: "runs.Run") -> None:
    """Adopts them on one of the hosts, after the devices: reading records is computing already."""
    from dataset_tools import adopt
    from pipeline.devices import hosts
    from pipeline.training import train

    strategy = train.make_devices(run)
    adopt.find_sources(sixth_place.training_specs())  # by each host, for its mistakes
    hosts.by_chief(strategy, _adopt_records)
    sixth_place.check_counts(run.data_dir)


def resolve_stages() -> list[stages.Stage]:
    """The --stage lines over the flags that have been parsed."""
    return stages.parse(FLAGS.stage, {name: FLAGS[name].value for name in stages.STAGE_FLAGS},
                        {name: FLAGS[name].parser.parse for name in stages.STAGE_FLAGS},
                        {name: FLAGS[name].default for name in stages.STAGE_FLAGS})


def make_run(resolved: list[stages.Stage], fold: Optional[int]) -> "runs.Run":
    """What the flags ask for."""
    from pipeline.runs import run as runs

    return runs.Run(
        data_dir=FLAGS.data_dir, model_dir=FLAGS.model_dir, model=FLAGS.model, stages=tuple(resolved),
        weights=FLAGS.weights, init_from=FLAGS.init_from, train_split=FLAGS.train_split, fold=fold,
        hold_out_classes=FLAGS.hold_out_classes, num_classes=FLAGS.num_classes, place_input=FLAGS.place_input,
        input_scaling=FLAGS.input_scaling, dropout=FLAGS.dropout, channel_dropout=FLAGS.channel_dropout,
        head_init=FLAGS.head_init, pool=FLAGS.pool, embedding_dim=FLAGS.embedding_dim,
        arcface_scale=FLAGS.arcface_scale, arcface_subcentres=FLAGS.arcface_subcentres,
        pixel_mean=FLAGS.pixel_mean, pixel_std=FLAGS.pixel_std, boxes=FLAGS.boxes,
        precision=FLAGS.precision, sync_batch_norm=FLAGS.sync_batch_norm, random_seed=FLAGS.random_seed,
        unordered=FLAGS.unordered, max_steps=FLAGS.max_steps, tta=FLAGS.tta, oof_tta=FLAGS.oof_tta,
        allow_seen=FLAGS.allow_seen, tpu=FLAGS.tpu, virtual_replicas=FLAGS.virtual_replicas, jit=FLAGS.jit,
        steps_per_execution=FLAGS.steps_per_execution, cache=FLAGS.cache, ram_budget=FLAGS.ram_budget,
        save_minutes=FLAGS.save_minutes, on_nan=FLAGS.on_nan, skip_bad_records=FLAGS.skip_bad_records,
        deterministic=FLAGS.deterministic, dry_run=FLAGS.dry_run)


def _run_folds(resolved: list[stages.Stage], folds: Sequence[int]) -> None:
    """A process each, which makes devices of its own: this one has none."""
    from pipeline.devices import cluster
    from pipeline.experiment import fold_runs
    from pipeline.runs import seen_checks

    cluster.refuse_folds()
    if FLAGS.training_files:
        _adopt_records()
        sixth_place.check_counts(FLAGS.data_dir)
    if FLAGS.dry_run:
        _print_plan_of_folds(resolved, folds)
        return
    fold_runs.run_folds(FLAGS.data_dir, FLAGS.model_dir, folds, sys.argv,
                        lambda data, fold: seen_checks.check_start(make_run(resolved, fold), data))


def _print_plan_of_folds(resolved: list[stages.Stage], folds: Sequence[int]) -> None:
    """What stands of each, and the plan of the first that is to be trained: those of the others differ by some examples."""
    from pipeline.experiment import fold_runs
    from pipeline.records import dataset
    from pipeline.runs import seen_checks
    from pipeline.training import train

    data = dataset.load(FLAGS.data_dir)
    folds = fold_runs.chosen(data, folds)
    for fold in folds:
        seen_checks.check_start(make_run(resolved, fold), data)
    told, left = fold_runs.told(FLAGS.model_dir, folds)
    if left:
        train.run_training(make_run(resolved, left[0]))
    print(told)


def _predict_probe(run: "runs.Run") -> None:
    """Of val, where that is held out."""
    from pipeline.prediction import predict
    from pipeline.records import dataset

    predict.predict_probe(run, dataset.load(run.data_dir))


def main() -> None:
    preemption.watch(FLAGS.max_minutes)
    if sixth_place_flags.is_used():
        sixth_place.translate_training()
    require("model_dir", "model")
    resolved = resolve_stages()
    if FLAGS.training_files:
        FLAGS.data_dir = os.path.join(FLAGS.model_dir, "records")
    require("data_dir")

    folds = parse_folds(FLAGS.fold) if FLAGS.fold else ()
    if folds == ALL_FOLDS or len(folds) > 1:
        _run_folds(resolved, () if folds == ALL_FOLDS else folds)
        return
    from pipeline.experiment import fold_runs  # late: TensorFlow takes seconds to import, and a mistyped flag should not
    from pipeline.runs import run as runs
    from pipeline.training import train

    if FLAGS.epochs_from:
        resolved = runs.with_epochs_of(FLAGS.epochs_from, resolved)
    run = make_run(resolved, folds[0] if folds else None)
    if FLAGS.training_files:
        _adopt_records_for(run)
    if run.fold is None:
        train.run_training(run)
        if runs.probe_before_last(run) and not run.dry_run:
            _predict_probe(run)
        return
    with fold_runs.failure_noted(run):
        train.run_training(run)
        if not run.dry_run:
            preemption.check()
            fold_runs.finish_fold(run)


if __name__ == "__main__":
    command.run(main)
