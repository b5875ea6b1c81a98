"""What can be known to go wrong before anything is trained, so that nobody learns of it hours later."""

from absl import logging

from pipeline import dataset as datasets, patience, run_record, runs, stages
from pipeline.errors import UserError
from pipeline.models import classifier as classifiers, weights, zoo
from pipeline.ops import decode, randaugment, tta


def check(run: runs.Run, data: datasets.Dataset) -> None:
    """Raises UserError for whatever the run's stages would stumble over."""
    _check_classes(run, data)
    _check_model(run)
    _check_parts(run, data)
    tta.parse(run.tta)
    for stage in run.stages:
        patience.check(stage, has_validation=runs.held_out_part(run, data) is not None)
        decode.parse_eval_resize(stage.eval_resize, stage.size)
        check_long_tail(stage, data)
        if stage.randaugment:
            randaugment.parse(stage.randaugment)
            if stage.augment == "eval":
                raise UserError(f"stage {stage.name}: randaugment={stage.randaugment} does not go with augment=eval "
                                "(write randaugment= in the stage to turn it off)")


def input_scaling(run: runs.Run) -> str:
    """The mode of models.scaling that belongs to the run's first weights; every later stage must keep it."""
    if run.init_from:
        return run_record.read(run.init_from)["free"]["scaling"]
    return weights.resolve(run.model, zoo.find(run.model), run.weights).scaling


def _check_classes(run: runs.Run, data: datasets.Dataset) -> None:
    classes = len(data.manifest.classes)
    if run.num_classes is not None and run.num_classes != classes:
        told = f"--num_classes={run.num_classes}, but {data.directory} has {classes} classes"
        if not run.max_steps:  # a recipe may be tried out on a part of its competition
            raise UserError(told)
        logging.warning("%s; going on with those, as --max_steps is only a trial", told)
    if data.manifest.multi_label:
        raise UserError(f"{data.directory} has several labels a picture, which --loss=softmax can't learn")


def check_long_tail(stage: stages.Stage, data: datasets.Dataset) -> None:
    """Raises UserError where class_balance or logit_adjust don't go with the data or with each other."""
    if data.manifest.multi_label and (stage.class_balance != "none" or stage.logit_adjust):
        raise UserError(f"stage {stage.name}: class_balance and logit_adjust want one label a picture; {data.directory} "
                        "has several")
    if stage.class_balance == "full" and stage.logit_adjust:
        raise UserError(f"stage {stage.name}: logit_adjust={stage.logit_adjust:g} has nothing to adjust where "
                        "class_balance=full shows all classes equally often; give one of them")


def _check_model(run: runs.Run) -> None:
    spec = zoo.find(run.model)
    if run.init_from:
        runs.finished_folds(run.init_from)
        theirs = run_record.read(run.init_from)["same"]["model"]
        if theirs != run.model:
            raise UserError(f"--init_from: {run.init_from} is a {theirs}, not a {run.model}")
    else:
        source = weights.resolve(run.model, spec, run.weights)
        if source.path is not None:
            weights.check_h5(source.path)
    for stage in run.stages:
        zoo.check_size(run.model, stage.size)
    counted = [stage for stage in run.stages if stage.train not in ("head", "all")]
    if counted:  # their layers are known only once the network stands
        base = zoo.build_base(run.model, counted[0].size)
        for stage in counted:
            classifiers.first_trained(base.layers, stage.train)


def _check_parts(run: runs.Run, data: datasets.Dataset) -> None:
    names = run.train_split.split("+")
    if len(set(names)) < len(names):
        raise UserError(f"--train_split={run.train_split} names a split twice")
    if "test" in names:
        raise UserError(f"--train_split={run.train_split}: the test pictures have no labels to learn from")
    part = runs.training_part(run, data)
    part.check()
    held_out = runs.held_out_part(run, data)
    if held_out:
        held_out.check()
    for stage in run.stages:
        if stage.batch_size > part.size:
            logging.warning("stage %s: a batch of %d is more than the %d pictures there are; each stands in it several "
                            "times", stage.name, stage.batch_size, part.size)
