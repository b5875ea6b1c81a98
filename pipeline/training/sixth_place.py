"""The flags of iNat 2021's sixth-place solution, translated into our own.

Its flagfiles work as they are on multi_stage_train.py and predict.py: give any flag of theirs that isn't also ours and
theirs are the defaults. A flag of ours on the same command line wins over the translation.
"""

import os
from typing import Iterable, Optional

from absl import flags

from pipeline import files
from pipeline.errors import UserError, unknown
from pipeline.flag_types import require
from pipeline.runs import record as run_record
from pipeline.runs.stages import COSINE_WHOLE
from pipeline.training.sixth_place_flags import ONE_STAGE, THREE_STAGES, given

FLAGS = flags.FLAGS

_MODELS = {
    **{f"efficientnet-b{i}": f"keras/efficientnet-b{i}" for i in range(8)},
    "mobilenetv2": "keras/mobilenetv2", "mobilenetv2_a1.0": "keras/mobilenetv2",
    **{f"mobilenetv2_a{width}": f"keras/mobilenetv2-{width}" for width in (0.35, 0.5, 0.75, 1.3, 1.4)},
}
# --input_scale_mode as a mode of models.scaling.
_SCALINGS = {"tf_mode": "tf", "torch_mode": "torch", "float32": "01"}
_EFFICIENTNETS_OWN = "torch"       # what it makes of uint8
_GEO_INPUTS = {True: 6, False: 4}  # of their geo prior, with and without the date
_ALL = -1                          # of --unfreeze_layers


def _set(name: str, value) -> None:
    """Sets a flag of ours, unless it was given itself."""
    if not FLAGS[name].present:
        FLAGS[name].value = value


def _model() -> str:
    if FLAGS.model_name not in _MODELS:
        raise unknown("--model_name", FLAGS.model_name, _MODELS)
    return _MODELS[FLAGS.model_name]


def _scaling() -> Optional[str]:
    """The mode of models.scaling that --input_scale_mode asks for; None: the network's own."""
    if FLAGS.input_scale_mode == "uint8":
        return None if FLAGS.model_name.startswith("efficientnet") else "raw"
    return _SCALINGS.get(FLAGS.input_scale_mode)


def _frozen(layers: int) -> str:
    """What a stage that trains so many layers of the base says of the place branch."""
    return ",freeze_place=on" if FLAGS.use_coordinates_inputs and layers != _ALL else ""


def _stage(name: str, rate: float, epochs: int, size: int, layers: int, fix_resolution: bool = False) -> str:
    train = {0: "head", _ALL: "all"}.get(layers, f"last:{layers}")
    extra = ",augment=eval,randaugment=" if fix_resolution else ""
    return f"name={name},epochs={epochs},size={size},lr={rate},train={train}{extra}{_frozen(layers)}"


def stage_lines() -> list[str]:
    """Theirs, as our --stage: main.py's one; else the head, everything, and the last layers at a larger size by the
    evaluation's preprocessing. Raises UserError for flags of both programs, and for one stage's beside --stage."""
    one, three = given(ONE_STAGE), given(THREE_STAGES)
    if one and three:
        raise UserError(f"--{one[0]} is of the solution's main.py, which trains one stage, --{three[0]} of its "
                        "multi_stage_train.py, which trains three: give flags of one of them")
    if one and FLAGS["stage"].present:
        raise UserError(f"--{one[0]} is of the solution's main.py and does not go with --stage, whose line tells its own "
                        "lr, epochs and augment")
    if one:
        layers = _ALL if FLAGS.unfreeze_layers is None else FLAGS.unfreeze_layers
        name = "fixres" if FLAGS.fix_resolution else {0: "head", _ALL: "all"}.get(layers, "last")
        return [_stage(name, FLAGS.lr, FLAGS.epochs, FLAGS.input_size, layers, FLAGS.fix_resolution)]
    return [
        _stage("head", FLAGS.lr_stage1, FLAGS.epochs_stage1, FLAGS.input_size, 0),
        _stage("all", FLAGS.lr_stage2, FLAGS.epochs_stage2, FLAGS.input_size, _ALL),
        _stage("fixres", FLAGS.lr_stage3, FLAGS.epochs_stage3, FLAGS.input_size_stage3, FLAGS.unfreeze_layers or 0, True),
    ]


def translate_training() -> None:
    """Sets our training flags from theirs, their defaults included."""
    layers, magnitude = FLAGS.randaug_num_layers, FLAGS.randaug_magnitude
    if (layers is None) != (magnitude is None):
        raise UserError("--randaug_num_layers and --randaug_magnitude go together")
    _set("model", _model())
    _set("weights", FLAGS.base_model_weights)
    _set("input_scaling", _scaling())
    _set("init_from", FLAGS.load_checkpoint)
    _set("stage", stage_lines())
    _set("randaugment", f"{layers}:{magnitude}:same:tf_contrast" if layers is not None else "")
    _set("augment", "simple" if FLAGS.use_simple_augment and layers is None else "inception")
    _set("scale_lr", FLAGS.use_scaled_lr)
    _set("lr_schedule", COSINE_WHOLE if FLAGS.use_cosine_decay else "constant")
    _set("place_input", FLAGS.use_coordinates_inputs)
    if FLAGS.use_coordinates_inputs:
        _set("place_drop", 0.5 if FLAGS.use_coordinates_augment else 0.0)
    # What their programs have no flags for.
    _set("min_crop", 0.5)
    _set("crop_law", "height")
    _set("antialias", False)
    _set("randaugment_engine", "reference")
    _set("keep", "last")
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
        ("input_scale_mode", _scaling() or _EFFICIENTNETS_OWN, record["free"]["scaling"]),
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
        ("use_date_feats", FLAGS.use_date_feats, trained["date_input"]),
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
