"""The flags of iNat 2021's sixth-place solution, which sixth_place translates into our own.

Training has two programs there: main.py trains one stage, multi_stage_train.py three. Our multi_stage_train.py takes the
flags of either; predict.py those of its predict_main.py.
"""

from absl import flags

from pipeline.flag_help import heading

FLAGS = flags.FLAGS

_ENCODINGS = ("encode_cos_sin",)
SCALE_MODES = ("uint8", "tf_mode", "torch_mode", "float32")

_COMMON = ("model_name", "input_size", "input_scale_mode", "use_coordinates_inputs")
_TRAINING = ("training_files", "num_training_instances", "validation_files", "num_validation_instances", "unfreeze_layers",
             "randaug_num_layers", "randaug_magnitude", "use_scaled_lr", "use_cosine_decay", "load_checkpoint",
             "base_model_weights", "use_coordinates_augment", "use_simple_augment")
ONE_STAGE = ("lr", "epochs", "fix_resolution")  # of main.py alone
THREE_STAGES = ("input_size_stage3", "lr_stage1", "lr_stage2", "lr_stage3", "epochs_stage1", "epochs_stage2",
                "epochs_stage3")                # of their multi_stage_train.py alone
_PREDICTION = ("test_files", "ckpt_dir", "geo_prior_ckpt_dir", "geo_prior_input_size", "use_bn_geo_prior", "embed_dim",
               "submission_file_path", "use_tta", "log_frequence")

_HELP = "As in the sixth-place solution."


def _define_common(date_feats: str) -> None:
    """date_feats: what --use_date_feats says in this command."""
    heading("Of iNat 2021's sixth-place solution, for its own flagfiles (translated by pipeline/training/sixth_place.py)")
    flags.DEFINE_string("model_name", "efficientnet-b0", f"efficientnet-b0 to -b7, mobilenetv2 or mobilenetv2_a0.5. {_HELP}")
    flags.DEFINE_integer("input_size", 224, _HELP, 1)
    flags.DEFINE_enum("input_scale_mode", None, SCALE_MODES, "What the network gets of pixels (--input_scaling): uint8 0 to "
                      "255, which EfficientNet scales itself; tf_mode -1 to 1; torch_mode by ImageNet's mean and deviation; "
                      "float32 0 to 1. These three take the place of EfficientNet's own. Default: what the weights were "
                      f"trained with. {_HELP}")
    flags.DEFINE_boolean("use_coordinates_inputs", False, _HELP)
    for name in ("loc_encode", "date_encode"):
        flags.DEFINE_enum(name, _ENCODINGS[0], _ENCODINGS, f"Of the geo prior: the one encoding there is. {_HELP}")
    flags.DEFINE_boolean("use_date_feats", True, f"{date_feats} {_HELP}")
    for name, default, told in (("num_readers", 64, "as many shards as are useful are read side by side"),
                                ("suffle_buffer_size", 10000, "the shuffle has a buffer of its own")):
        flags.DEFINE_integer(name, default, f"Taken, and changes nothing: {told}. {_HELP}", 1)


def define_training() -> None:
    """Defines those of both training programs."""
    _define_common("Taken, and changes nothing: the geo prior's alone, which predict.py puts on top.")
    for split in ("training", "validation"):
        flags.DEFINE_string(f"{split}_files", None, f"Glob of TFRecords to adopt. {_HELP}")
        flags.DEFINE_integer(f"num_{split}_instances", None, f"Must agree with the records. {_HELP}", 1)
    flags.DEFINE_float("lr", 0.01, f"Of its main.py, which trains one stage. {_HELP}", 0.0)
    flags.DEFINE_integer("epochs", 10, f"Of its main.py, which trains one stage. {_HELP}", 1)
    flags.DEFINE_boolean("fix_resolution", False, "Of its main.py: train by the evaluation's preprocessing, with "
                         f"--unfreeze_layers of the base. {_HELP}")
    flags.DEFINE_integer("input_size_stage3", 260, _HELP, 1)
    for stage, rate, epochs in ((1, 0.1, 4), (2, 0.1, 10), (3, 0.008, 2)):
        flags.DEFINE_float(f"lr_stage{stage}", rate, _HELP, 0.0)
        flags.DEFINE_integer(f"epochs_stage{stage}", epochs, f"0 skips the stage. {_HELP}", 0)
    flags.DEFINE_integer("unfreeze_layers", None, "Layers of the base that stage 3, or main.py's one stage, trains; -1: "
                         f"all. Default: 0, of main.py -1. {_HELP}", -1)
    flags.DEFINE_integer("randaug_num_layers", None, _HELP, 1)
    flags.DEFINE_integer("randaug_magnitude", None, _HELP, 0)
    flags.DEFINE_boolean("use_simple_augment", False, f"--augment=simple, where there is no RandAugment. {_HELP}")
    flags.DEFINE_boolean("use_coordinates_augment", False, f"--place_drop=0.5. {_HELP}")
    flags.DEFINE_boolean("use_scaled_lr", True, _HELP)
    flags.DEFINE_boolean("use_cosine_decay", True, _HELP)
    flags.DEFINE_string("load_checkpoint", None, f"A model directory of ours (--init_from). {_HELP}")
    flags.DEFINE_string("base_model_weights", "imagenet", _HELP)


def define_prediction() -> None:
    """Defines those of its predict_main.py."""
    _define_common("Must agree with the geo prior.")
    flags.DEFINE_integer("num_classes", None, f"Must agree with the model. {_HELP}", 1)
    flags.DEFINE_string("test_files", None, f"Glob of TFRecords to adopt. {_HELP}")
    flags.DEFINE_string("ckpt_dir", None, f"A model directory of ours (--model_dir). {_HELP}")
    flags.DEFINE_string("geo_prior_ckpt_dir", None, f"A folder of train_geo_prior.py, for --submission_file_path. {_HELP}")
    flags.DEFINE_integer("geo_prior_input_size", 6, f"Must agree with the geo prior. {_HELP}", 1)
    flags.DEFINE_boolean("use_bn_geo_prior", False, f"Ours has no batch normalization. {_HELP}")
    flags.DEFINE_integer("embed_dim", 256, f"Must agree with the geo prior. {_HELP}", 1)
    flags.DEFINE_integer("log_frequence", 500, f"Taken, and not needed: progress is told by time. {_HELP}", 1)
    flags.DEFINE_integer("random_seed", 42, f"Taken, and changes nothing: nothing is drawn in predicting. {_HELP}", 0)
    flags.DEFINE_string("submission_file_path", None, f"Write the submission there too. {_HELP}")
    flags.DEFINE_boolean("use_tta", False, f"--tta=six. {_HELP}")


def given(names) -> list[str]:
    """Those of the flags that stand on the command line."""
    return [name for name in names if name in FLAGS and FLAGS[name].present]


def is_used() -> bool:
    """True where a flag stands on the command line that only the solution has, and that changes something."""
    own = ("num_classes",) if "ckpt_dir" in FLAGS else ()  # predict.py has none of its own
    return bool(given((*_COMMON, *_TRAINING, *ONE_STAGE, *THREE_STAGES, *_PREDICTION, *own)))
