"""The flags of iNat 2021's sixth-place solution, translated into our own.

Its flagfiles work as they are on multi_stage_train.py and predict.py: give any flag of theirs that isn't also ours and
theirs are the defaults. A flag of ours on the same command line wins over the translation.
"""

import os
from typing import Iterable

from absl import flags

from pipeline import files
from pipeline.errors import UserError, unknown
from pipeline.flag_help import heading
from pipeline.flag_types import require
from pipeline.runs import record as run_record

FLAGS = flags.FLAGS

# Their model names; the scaling of pixels (--input_scale_mode) is bound to the model here.
_MODELS = {f"efficientnet-b{i}": f"keras/efficientnet-b{i}" for i in range(8)}
_SCALE_MODE = "uint8"  # all of these models take pixels 0–255

_COMMON = ("model_name", "input_size", "input_scale_mode", "use_coordinates_inputs")
_TRAINING = ("training_files", "num_training_instances", "validation_files", "num_validation_instances",
             "input_size_stage3", "lr_stage1", "lr_stage2", "lr_stage3", "epochs_stage1", "epochs_stage2",
             "epochs_stage3", "unfreeze_layers", "randaug_num_layers", "randaug_magnitude", "use_scaled_lr",
             "use_cosine_decay", "load_checkpoint", "base_model_weights")
_PREDICTION = ("test_files", "ckpt_dir", "geo_prior_ckpt_dir", "geo_prior_input_size", "use_bn_geo_prior", "embed_dim",
               "submission_file_path", "use_tta", "log_frequence")
_GEO_INPUTS = {True: 6, False: 4}  # of their geo prior, with and without the date

_HELP = "As in the sixth-place solution."


def _define_common() -> None:
    heading("Of iNat 2021's sixth-place solution, for its own flagfiles (translated by "
            "pipeline/training/sixth_place_flags.py)")
    flags.DEFINE_string("model_name", "efficientnet-b0", _HELP)
    flags.DEFINE_integer("input_size", 224, _HELP, 1)
    flags.DEFINE_string("input_scale_mode", _SCALE_MODE, _HELP)
    flags.DEFINE_boolean("use_coordinates_inputs", False, _HELP)


def define_training() -> None:
    _define_common()
    for split in ("training", "validation"):
        flags.DEFINE_string(f"{split}_files", None, f"Glob of TFRecords to adopt. {_HELP}")
        flags.DEFINE_integer(f"num_{split}_instances", None, f"Must agree with the records. {_HELP}", 1)
    flags.DEFINE_integer("input_size_stage3", 260, _HELP, 1)
    for stage, rate, epochs in ((1, 0.1, 4), (2, 0.1, 10), (3, 0.008, 2)):
        flags.DEFINE_float(f"lr_stage{stage}", rate, _HELP, 0.0)
        flags.DEFINE_integer(f"epochs_stage{stage}", epochs, f"0 skips the stage. {_HELP}", 0)
    flags.DEFINE_integer("unfreeze_layers", 0, f"Layers of the base that stage 3 trains. {_HELP}", 0)
    flags.DEFINE_integer("randaug_num_layers", None, _HELP, 1)
    flags.DEFINE_integer("randaug_magnitude", None, _HELP, 0)
    flags.DEFINE_boolean("use_scaled_lr", True, _HELP)
    flags.DEFINE_boolean("use_cosine_decay", True, _HELP)
    flags.DEFINE_string("load_checkpoint", None, f"A model directory of ours (--init_from). {_HELP}")
    flags.DEFINE_string("base_model_weights", "imagenet", _HELP)


def define_prediction() -> None:
    _define_common()
    flags.DEFINE_integer("num_classes", None, f"Must agree with the model. {_HELP}", 1)
    flags.DEFINE_string("test_files", None, f"Glob of TFRecords to adopt. {_HELP}")
    flags.DEFINE_string("ckpt_dir", None, f"A model directory of ours (--model_dir). {_HELP}")
    flags.DEFINE_string("geo_prior_ckpt_dir", None, f"A folder of train_geo_prior.py, for --submission_file_path. {_HELP}")
    flags.DEFINE_integer("geo_prior_input_size", 6, f"Must agree with the geo prior. {_HELP}", 1)
    flags.DEFINE_boolean("use_bn_geo_prior", False, f"Must agree with the geo prior. {_HELP}")
    flags.DEFINE_integer("embed_dim", 256, f"Must agree with the geo prior. {_HELP}", 1)
    flags.DEFINE_integer("log_frequence", 500, f"Taken, and not needed: progress is told by time. {_HELP}", 1)
    flags.DEFINE_string("submission_file_path", None, f"Write the submission there too. {_HELP}")
    flags.DEFINE_boolean("use_tta", False, f"--tta=six. {_HELP}")


def is_used() -> bool:
    """True where a flag stands on the command line that only the solution has."""
    theirs = _COMMON + _TRAINING + _PREDICTION
    if "ckpt_dir" in FLAGS:
        theirs += ("num_classes",)  # predict.py has none of its own
    return any(name in FLAGS and FLAGS[name].present for name in theirs)


def _set(name: str, value) -> None:
    """Sets a flag of ours, unless it was given itself."""
    if not FLAGS[name].present:
        FLAGS[name].value = value


def _model() -> str:
    if FLAGS.model_name not in _MODELS:
        raise unknown("--model_name", FLAGS.model_name, _MODELS)
    if FLAGS.input_scale_mode != _SCALE_MODE:
        raise UserError(f"--input_scale_mode={FLAGS.input_scale_mode}: {FLAGS.model_name} takes pixels 0–255, "
                        f"which is {_SCALE_MODE}")
    return _MODELS[FLAGS.model_name]


def _stage(number: int, name: str, size: int, train: str, extra: str = "") -> str:
    epochs = FLAGS[f"epochs_stage{number}"].value
    rate = FLAGS[f"lr_stage{number}"].value
    return f"name={name},epochs={epochs},size={size},lr={rate},train={train}{extra}"


def stage_lines() -> list[str]:
    """Their three stages: the head; everything; the last layers at a larger size with evaluation preprocessing."""
    last = f"last:{FLAGS.unfreeze_layers}" if FLAGS.unfreeze_layers else "head"
    return [
        _stage(1, "head", FLAGS.input_size, "head"),
        _stage(2, "all", FLAGS.input_size, "all"),
        _stage(3, "fixres", FLAGS.input_size_stage3, last, ",augment=eval,randaugment="),
    ]


def translate_training() -> None:
    """Sets our training flags from theirs, their defaults included."""
    layers, magnitude = FLAGS.randaug_num_layers, FLAGS.randaug_magnitude
    if (layers is None) != (magnitude is None):
        raise UserError("--randaug_num_layers and --randaug_magnitude go together")
    _set("model", _model())
    _set("weights", FLAGS.base_model_weights)
    _set("init_from", FLAGS.load_checkpoint)
    _set("stage", stage_lines())
    _set("randaugment", f"{layers}:{magnitude}" if layers is not None else "")
    _set("scale_lr", FLAGS.use_scaled_lr)
    _set("lr_schedule", "cosine" if FLAGS.use_cosine_decay else "constant")
    _set("place_input", FLAGS.use_coordinates_inputs)
    # Flags of one name in both, whose defaults differ.
    _set("label_smoothing", 0.1)
    _set("momentum", 0.0)
    _set("warmup_epochs", 0.3)
    _set("batch_size", 32)


def translate_prediction() -> None:
    """Sets our prediction flags from theirs."""
    if FLAGS.geo_prior_ckpt_dir:
        _check_geo_prior()
    _set("model_dir", FLAGS.ckpt_dir)
    require("model_dir")
    _check_model(run_record.read(FLAGS.model_dir))
    # Only what was said: one flag of theirs among ours must not change the size to their default.
    if FLAGS["input_size"].present:
        _set("size", FLAGS.input_size)
    if FLAGS["use_tta"].present or FLAGS["ckpt_dir"].present:
        _set("tta", "six" if FLAGS.use_tta else "none")


def _check_model(record: dict) -> None:
    """Raises UserError where their flags describe another model than the one trained."""
    _check_present(FLAGS.model_dir, (
        ("model_name", _model(), record["same"]["model"]),
        ("use_coordinates_inputs", FLAGS.use_coordinates_inputs, record["same"]["place_input"]),
        ("num_classes", FLAGS.num_classes, len(record["free"]["class_ids"]))))


def _check_geo_prior() -> None:
    """Raises UserError where there is no geo prior of ours, or their flags describe another one."""
    directory = FLAGS.geo_prior_ckpt_dir
    record = os.path.join(directory, run_record.RUN_FILE)
    trained = files.read_json(record).get("same", {}) if files.exists(record) else {}
    if "date_input" not in trained:
        raise UserError(f"--geo_prior_ckpt_dir: {directory} holds no geo prior of this program, which reads no other's "
                        "checkpoints; train one with train_geo_prior.py")
    if not FLAGS.submission_file_path:
        raise UserError("--geo_prior_ckpt_dir is for --submission_file_path, which is missing")
    _check_present(directory, (
        ("geo_prior_input_size", FLAGS.geo_prior_input_size, _GEO_INPUTS[trained["date_input"]]),
        ("use_bn_geo_prior", FLAGS.use_bn_geo_prior, trained.get("batch_norm", "off") != "off"),
        ("embed_dim", FLAGS.embed_dim, trained["embed_dim"])))


def _check_present(directory: str, rows: Iterable[tuple]) -> None:
    """Raises UserError for the first given flag whose value is another than that of a trained model.

    Args: rows: (flag, what its value stands for, what was trained).
    """
    for flag, told, trained in rows:
        if FLAGS[flag].present and told != trained:
            raise UserError(f"--{flag}={FLAGS[flag].value}, but {directory} was trained with {trained}")


def training_specs() -> list[str]:
    """--adopt_records values for their files; empty where --data_dir was given instead."""
    pairs = (("train", FLAGS.training_files), ("val", FLAGS.validation_files))
    return [f"{split}={pattern}" for split, pattern in pairs if pattern]


def check_counts(data_dir: str) -> None:
    """Raises UserError where the records are not as many as their flags say."""
    from pipeline.records import dataset  # late: pandas takes a moment to import, and a mistyped flag should not

    data = dataset.load(data_dir)
    for split, flag in (("train", "num_training_instances"), ("val", "num_validation_instances")):
        told = FLAGS[flag].value
        if told is not None and split in data.manifest.splits and data.manifest.split_size(split) != told:
            raise UserError(f"--{flag}={told}, but the records hold {data.manifest.split_size(split)} usable examples")
