"""What can be known to go wrong before anything is trained, so that nobody learns of it hours later."""

from absl import logging
import tensorflow as tf

from pipeline.devices import cluster, hosts, strategy as strategies
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers, scaling, weights, zoo
from pipeline.models.trained_layers import PROBE
from pipeline.ops import decode, randaugment, rotation, tta
from pipeline.records import dataset as datasets, device_pictures
from pipeline.records.training_picture import DEVICE, FAST, MASK
from pipeline.runs import record as run_record, run as runs, seen_checks, stages, strangers
from pipeline.runs.stages import Stage
from pipeline.tasks.task import ARCFACE
from pipeline.training import layer_rates, patience


def check_flags(run: runs.Run) -> None:
    """Raises UserError for what is wrong whatever the data and the devices are; nothing is computed or read for it."""
    if run.fold is not None:
        cluster.refuse_folds()
    if run.virtual_replicas and run.jit:
        raise UserError("--virtual_replicas does not go with --jit: XLA does not compile for the CPUs that it makes")
    spec = zoo.find(run.model)
    _check_pixels(run)
    if not run.init_from:
        weights.resolve(run.model, spec, run.weights)
    for views in (run.tta, run.oof_tta or run.tta):
        tta.check(views, run.stages[-1].eval_resize, run.stages[-1].size)
    _check_heads(run)
    for stage in run.stages:
        zoo.check_size(run.model, stage.size)
        if stage.is_probe:
            _check_probe(run, stage)
        if not decode.parse_eval_resize(stage.eval_resize, stage.size).short and stage.augment == "crop":
            raise UserError(f"stage {stage.name}: augment=crop needs eval_resize=short:N, not {stage.eval_resize}")
        if stage.randaugment:
            randaugment.parse(stage.randaugment)
        if stage.nesterov and (stage.optimizer != "sgd" or not stage.momentum):
            raise UserError(f"stage {stage.name}: --nesterov is of optimizer=sgd with a momentum, not of {stage.optimizer} with "
                            f"momentum={stage.momentum:g}")
        _check_augmentation(run, stage)


def _check_heads(run: runs.Run) -> None:
    """Whether the stages have one head: arcface has another than all other losses."""
    other = next((stage for stage in run.stages if stage.loss != ARCFACE), None)
    if other is None or not run.top.arcface:
        return
    if other.is_probe:
        raise UserError(f"stage {other.name}: train=probe does not go with loss=arcface in other stages: logistic "
                        "regression gives no head of cosines")
    raise UserError(f"stage {other.name}: loss={other.loss or 'the default'} does not go with loss=arcface in other stages, "
                    "whose head is another: give --loss=arcface for all, or for none")


def _check_probe(run: runs.Run, stage: Stage) -> None:
    for views in (run.tta, run.oof_tta or run.tta):
        tta.check(views, stage.eval_resize, stage.size)
    if run.place_input:
        raise UserError(f"stage {stage.name}: train=probe does not go with --place_input: what reads the place wants steps")
    if cluster.find():
        raise _probe_of_several(stage)


def _probe_of_several(stage: Stage) -> UserError:
    return UserError(f"stage {stage.name}: train=probe works on one host: unset TF_CONFIG, or take a TPU of one host (v2-8, "
                     "v3-8)")


def check(run: runs.Run, data: datasets.Dataset) -> None:
    """Raises UserError for whatever the run's stages would stumble over beyond its flags.

    The devices must stand: where a stage names layers, its network is built.
    """
    _check_classes(run, data)
    strangers.check(data, run.hold_out_classes, run.fold)
    _check_losses(run, data)
    _check_first_weights(run)
    _check_parts(run, data)
    _check_kept(run, data)
    seen_checks.check_held_out(run, data)
    seen_checks.check_start(run, data)
    for stage in run.stages:
        _check_warmup(stage, runs.plan_stage(run, stage, data))
        patience.check(stage, has_validation=runs.held_out_part(run, data) is not None)
        check_long_tail(stage, data)
    _check_layers(run)


def check_replicas(run: runs.Run, strategy: tf.distribute.Strategy) -> None:
    """Raises UserError for what the number or kind of replicas forbids."""
    if hosts.count(strategy) > 1 and run.fold is not None:
        raise cluster.several_for_folds()
    on_tpu = isinstance(strategy, tf.distribute.TPUStrategy)
    for stage in run.stages:
        if stage.is_probe and hosts.count(strategy) > 1:
            raise _probe_of_several(stage)
        strategies.check_divisible(strategy, stage.batch_size, stage.accumulate)
        if run.sync_batch_norm and stage.accumulate > 1 and strategy.num_replicas_in_sync > 1 and not on_tpu:
            raise UserError(f"stage {stage.name}: accumulate={stage.accumulate} goes with --sync_batch_norm on a TPU only: "
                            "elsewhere replicas can't exchange anything within a loop")
    if run.sync_batch_norm and strategy.num_replicas_in_sync == 1:
        logging.info("--sync_batch_norm changes nothing here: there is one replica")


def _check_warmup(stage: Stage, plan: runs.Plan) -> None:
    """By the stage's whole length, whatever --max_steps makes of it."""
    if plan.warmup_steps > plan.total_steps:
        raise UserError(f"stage {stage.name}: a warm-up of {stage.warmup_epochs:g} epochs never ends in a stage of "
                        f"{plan.epochs:g}; give it warmup_epochs={plan.epochs:g} at most")


def _check_augmentation(run: runs.Run, stage: Stage) -> None:
    if stage.freeze_place and not run.place_input:
        raise UserError(f"stage {stage.name}: freeze_place=on: without --place_input there is nothing that reads a place")
    if stage.augment == "eval" and stage.randaugment:
        raise UserError(f"stage {stage.name}: randaugment={stage.randaugment} does not go with augment=eval "
                        "(write randaugment= in the stage to turn it off)")
    for name in ("random_erasing", "jitter", "pca_noise", "grid_mask"):
        if stage.augment == "eval" and getattr(stage, name):
            raise UserError(f"stage {stage.name}: {name}={getattr(stage, name):g} does not go with augment=eval "
                            f"(write {name}=0 in the stage to turn it off)")
    if stage.rotate and stage.augment not in rotation.AUGMENTATIONS:
        raise UserError(f"stage {stage.name}: rotate={stage.rotate:g} turns pictures before they are cropped, which goes with "
                        f"augment={', '.join(rotation.AUGMENTATIONS)}, not {stage.augment} (write rotate=0 to turn it off)")
    if stage.cutmix and stage.mixup_draw == "picture":
        raise UserError(f"stage {stage.name}: mixup_draw=picture does not go with cutmix={stage.cutmix:g}, whose boxes are "
                        "drawn for a batch")
    _check_device_augmentation(stage)
    if run.place_input and (stage.mixup or stage.cutmix):
        raise UserError(f"stage {stage.name}: mixup and cutmix do not go with --place_input: a mixed picture has no place")


def _check_device_augmentation(stage: Stage) -> None:
    if stage.augment_on != DEVICE or not stage.randaugment:
        return
    if stage.randaugment_engine != FAST:
        raise UserError(f"stage {stage.name}: augment_on=device does not go with randaugment_engine={stage.randaugment_engine}, "
                        "which the host alone has (write randaugment_engine=fast, or augment_on=host)")
    magnitude, most = randaugment.parse(stage.randaugment).magnitude, device_pictures.MOST_MAGNITUDE
    if magnitude > most:
        raise UserError(f"stage {stage.name}: augment_on=device goes with randaugment=N:{most:g} at most, not "
                        f"{stage.randaugment}: pictures that are moved further do not fit (write augment_on=host)")


def input_scaling(run: runs.Run) -> str:
    """The mode of models.scaling of all the run's stages: what was asked for, else that of the first weights."""
    own = weights.resolve(run.model, zoo.find(run.model), "none" if run.init_from else run.weights).scaling
    if run.pixel_mean is not None:
        return scaling.of_pixels(_three("pixel_mean", run.pixel_mean), _three("pixel_std", run.pixel_std), own)
    if run.init_from:
        return run_record.read(run.init_from)["free"]["scaling"]
    return run.input_scaling or own


def _check_pixels(run: runs.Run) -> None:
    if (run.pixel_mean is None) != (run.pixel_std is None):
        raise UserError("--pixel_mean and --pixel_std go together: give both, or none for those that belong to the weights")
    if run.pixel_mean is None:
        return
    if run.input_scaling:
        raise UserError(f"--input_scaling={run.input_scaling} and --pixel_mean both say what the network gets of pixels: give one")
    _three("pixel_mean", run.pixel_mean)
    if min(_three("pixel_std", run.pixel_std)) <= 0:
        raise UserError(f"--pixel_std={run.pixel_std}: the deviations must be above 0")


def _three(flag: str, text: str) -> list[float]:
    """The numbers of red, green and blue in 115.75:120.83:93.49; raises UserError naming the flag."""
    try:
        numbers = [float(one) for one in text.split(":")]
    except ValueError:
        numbers = []
    if len(numbers) != 3 or not all(0 <= one <= 255 for one in numbers):
        raise UserError(f"--{flag}={text}: write three numbers from 0 to 255, of red, green and blue, e.g. 115.75:120.83:93.49")
    return numbers


def _check_classes(run: runs.Run, data: datasets.Dataset) -> None:
    classes = len(data.manifest.classes)
    if run.num_classes is not None and run.num_classes != classes:
        told = f"--num_classes={run.num_classes}, but {data.directory} has {classes} classes"
        if not run.max_steps:  # a recipe may be tried out on a part of its competition
            raise UserError(told)
        logging.warning("%s; going on with those, as --max_steps is only a trial", told)


def _check_losses(run: runs.Run, data: datasets.Dataset) -> None:
    """Whether every stage's loss and monitor are for what the data are."""
    task = data.task
    for stage in run.stages:
        for flag, given, known in (("loss", stage.loss, task.losses), ("monitor", stage.monitor, task.monitors)):
            if given not in known:
                fitting = " or ".join(f"--{flag}={one}" for one in known)
                raise UserError(f"stage {stage.name}: {flag}={given} is not for {task.labels} a picture, as {data.directory} "
                                f"has; give {fitting}")


def check_long_tail(stage: stages.Stage, data: datasets.Dataset) -> None:
    """Raises UserError where class_balance or logit_adjust don't go with the data or with each other."""
    if not data.task.exclusive and (stage.class_balance != "none" or stage.logit_adjust):
        raise UserError(f"stage {stage.name}: class_balance and logit_adjust want one label a picture; {data.directory} "
                        "has several")
    if stage.class_balance == "full" and stage.logit_adjust:
        raise UserError(f"stage {stage.name}: logit_adjust={stage.logit_adjust:g} has nothing to adjust where "
                        "class_balance=full shows all classes equally often; give one of them")


def _check_first_weights(run: runs.Run) -> None:
    if run.init_from:
        runs.finished_folds(run.init_from)
        theirs = run_record.read(run.init_from)["same"]["model"]
        if theirs != run.model:
            raise UserError(f"--init_from: {run.init_from} is a {theirs}, not a {run.model}")
        if run.input_scaling not in (None, input_scaling(run)):
            raise UserError(f"--input_scaling={run.input_scaling}: {run.init_from}, which --init_from names, was trained "
                            f"with {input_scaling(run)}")
        return
    source = weights.resolve(run.model, zoo.find(run.model), run.weights)
    if source.path is not None:
        weights.check_h5(source.path)


def _check_layers(run: runs.Run) -> None:
    by_layers = [stage for stage in run.stages if stage.train not in (PROBE, "head", "all") or stage.groups
                 or stage.lower_lrs or stage.layer_decay != 1]
    if by_layers:  # they are known only once the network stands
        base = zoo.build_base(run.model, by_layers[0].size)
        for stage in by_layers:
            classifiers.first_trained(base.layers, stage.train)
            layer_rates.base_factors(base.layers, stage)


def _check_kept(run: runs.Run, data: datasets.Dataset) -> None:
    last = run.stages[-1]
    plan = runs.plan_stage(run, last, data)
    for epochs in runs.kept_epochs(run, last):
        if not plan.has_snapshot_after(epochs):
            raise UserError(f"stage {last.name}: keep_epochs={last.keep_epochs}: it has no checkpoint after epoch "
                            f"{epochs:g}, but every {last.validate_every:g} (--validate_every) up to {plan.epochs:g}")


def _check_parts(run: runs.Run, data: datasets.Dataset) -> None:
    names = run.train_split.split("+")
    if len(set(names)) < len(names):
        raise UserError(f"--train_split={run.train_split} names a split twice")
    if "test" in names:
        raise UserError(f"--train_split={run.train_split}: the test pictures have no labels to learn from")
    part = runs.training_part(run, data)
    part.check()
    if run.place_input and part.examples()["latitude"].isna().all():
        raise UserError(f"--place_input: no picture of {run.train_split} has a place in {data.directory}; see what "
                        "create_tfrecords.py says of places, or train without")
    held_out = runs.validation_part(run, data)
    if held_out:
        held_out.check()
    _check_masks(run, part)
    for stage in run.stages:
        if stage.batch_size > part.size and not stage.is_probe:
            logging.warning("stage %s: a batch of %d is more than the %d pictures there are; each stands in it several "
                            "times", stage.name, stage.batch_size, part.size)


def _check_masks(run: runs.Run, part: datasets.Part) -> None:
    """Whether the boxes have masks where a stage, or the views that predictions are made with, take some."""
    asked = [f"stage {stage.name}: augment={MASK}" for stage in run.stages if stage.augment == MASK]
    asked += [f"--tta={views}" for views in (run.tta, run.oof_tta or run.tta) if tta.parse(views).of_mask]
    for one in asked:
        part.check_masks(one)
