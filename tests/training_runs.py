"""Small training runs for tests."""

from pipeline.runs import run as runs, stages

STAGE = {"name": "all", "epochs": 1, "size": 32, "lr": 0.01, "lower_lrs": (), "train": "all", "batch_size": 10,
         "augment": "inception", "min_crop": 0.08, "crop_law": "area", "antialias": True, "resize_engine": "fast", "rotate": 0.0,
         "grid_mask": 0.0, "randaugment": "", "randaugment_engine": "fast", "eval_resize": "squash", "place_drop": 0.5,
         "freeze_place": False, "label_smoothing": 0.0,
         "optimizer": "adam", "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "l2": 0.0, "decay_all": False,
         "clip_norm": 0.0, "lr_schedule": "constant", "lr_factor": 0.1,
         "warmup_epochs": 0.0, "scale_lr": False, "lr_batch": 256, "groups": "", "layer_decay": 1.0, "ema": 0.0,
         "accumulate": 1,
         "monitor": "val_loss", "keep": "best", "early_stop": 0, "validate_every": 1.0, "min_steps": 0, "keep_epochs": "",
         "class_balance": "none", "logit_adjust": 0.0, "loss": "softmax", "focal_alpha": 0.5, "focal_gamma": 0.25, "arcface_margin": 0.5,
         "mixup": 0.0, "mixup_draw": "batch", "cutmix": 0.0, "random_erasing": 0.0, "jitter": 0.0, "pca_noise": 0.0,
         "augment_on": "host"}


def stage(**changes) -> stages.Stage:
    return stages.Stage(**{**STAGE, **changes})


def run(data, model_dir, *run_stages: stages.Stage, **changes) -> runs.Run:
    return runs.Run(data_dir=data.directory, model_dir=str(model_dir), model=changes.pop("model", "kecam/EfficientNetV2Tiny"),
                     stages=run_stages or (stage(),), **changes)
