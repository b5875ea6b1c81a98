"""--stage lines: order, defaults, overrides and mistakes."""

import pytest

from pipeline.errors import UserError
from pipeline.runs import stages
from pipeline.runs.stages import STAGE_FLAGS

DEFAULTS = {"batch_size": 32, "augment": "inception", "min_crop": 0.08, "crop_law": "area", "antialias": True,
            "resize_engine": "fast", "randaugment": "6:4", "randaugment_engine": "fast", "eval_resize": "squash",
            "place_drop": 0.5, "freeze_place": False,
            "label_smoothing": 0.1, "optimizer": "sgd", "momentum": 0.9, "weight_decay": 0.0, "clip_norm": 0.0,
            "lr_schedule": "cosine", "lr_factor": 0.1, "warmup_epochs": 0.3, "scale_lr": True, "lr_batch": 256,
            "groups": "", "layer_decay": 1.0, "ema": 0.0, "accumulate": 1, "monitor": "val_loss", "keep": "best",
            "early_stop": 0,
            "validate_every": 1.0, "min_steps": 0, "keep_epochs": "", "class_balance": "none", "logit_adjust": 0.0, "loss": "softmax",
            "focal_alpha": 0.5, "focal_gamma": 0.25, "arcface_margin": 0.5, "mixup": 0.0, "mixup_draw": "batch", "cutmix": 0.0,
            "random_erasing": 0.0, "jitter": 0.0, "pca_noise": 0.0, "rotate": 0.0, "grid_mask": 0.0, "nesterov": False,
            "l2": 0.0, "decay_all": False, "augment_on": "host"}
PARSERS = {name: (lambda kind: lambda text: kind(text))(type(value)) for name, value in DEFAULTS.items()}
UNTOUCHED = {**DEFAULTS, "randaugment": "", "batch_size": 8, "class_balance": "none", "label_smoothing": 0.0}


def parse(*lines):
    return stages.parse(lines, DEFAULTS, PARSERS, UNTOUCHED)


def test_defaults_cover_every_stage_flag():
    assert set(DEFAULTS) == set(STAGE_FLAGS)


def test_stages_stand_in_order_and_take_the_flags():
    head, everything = parse("name=head,epochs=4,size=224,lr=0.1,train=head",
                             "name=all,epochs=20,size=300,lr=0.05,batch_size=64,randaugment=")
    assert (head.name, head.train, head.batch_size, head.randaugment) == ("head", "head", 32, "6:4")
    assert (everything.train, everything.batch_size, everything.randaugment) == ("all", 64, "")


def test_a_stage_of_the_same_name_takes_the_earlier_ones_place():
    first, second = parse("name=a,epochs=1,size=32,lr=1", "name=b,epochs=2,size=32,lr=1", "name=a,epochs=9,size=64,lr=2")
    assert (first.name, first.epochs, first.size, second.name) == ("a", 9, 64, "b")


def test_epochs_may_be_parts_and_rates_several():
    first, second = parse("name=a,epochs=0.5,size=32,lr=1e-5:8e-5:5e-4,groups=b:c", "name=b,epochs=1,size=32,lr=0.1")
    assert (first.epochs, first.lr, first.lower_lrs, first.groups) == (0.5, 5e-4, (1e-5, 8e-5), "b:c")
    assert (second.lr, second.lower_lrs, second.groups) == (0.1, (), "")


@pytest.mark.parametrize("text, epochs", [("", ()), ("18", (18.0,)), ("24:18:0.5:18", (0.5, 18.0, 24.0))])
def test_numbers_of_epochs(text, epochs):
    assert stages.parse_epochs("keep_epochs", text) == epochs


@pytest.mark.parametrize("text", ["x", "0", "-1", "nan", "inf", "18:", ":"])
def test_no_numbers_of_epochs(text):
    with pytest.raises(UserError, match=f"keep_epochs={text}: write numbers of epochs"):
        parse(f"name=a,epochs=1,size=32,lr=1,keep_epochs={text}")


def test_zero_epochs_skip_a_stage():
    assert [stage.name for stage in parse("name=a,epochs=0,size=32,lr=1", "name=b,epochs=2,size=32,lr=1")] == ["b"]


def test_a_probe_needs_no_epochs_and_takes_no_flag_that_means_nothing_to_it():
    probe, everything = parse("name=probe,size=64,train=probe,eval_resize=short:72", "name=all,epochs=2,size=32,lr=1")
    assert probe.is_probe and not everything.is_probe
    assert (probe.size, probe.eval_resize, probe.batch_size) == (64, "short:72", 32)
    assert (probe.randaugment, probe.label_smoothing, everything.randaugment) == ("", 0.0, "6:4")
    (left,) = parse("name=probe,size=64,train=probe,epochs=0", "name=all,epochs=2,size=32,lr=1")
    assert left.name == "all"


@pytest.mark.parametrize("key", ["lr=0.1", "epochs=1", "augment=crop", "mixup=0.1", "ema=0.9"])
def test_what_means_nothing_to_a_probe_is_refused_in_its_stage(key):
    with pytest.raises(UserError, match=f"{key.split('=')[0]} means nothing with train=probe.* it takes name, size"):
        parse(f"name=probe,size=64,train=probe,{key}")


@pytest.mark.parametrize("scale_lr, batch, lr_batch, peak", [
    (True, 32, 256, 0.1 * 32 / 256), (True, 512, 256, 0.2), (False, 32, 256, 0.1), (True, 64, 64, 0.1),
    (True, 8, 64, 0.0125)])
def test_the_rate_is_scaled_by_the_batch(scale_lr, batch, lr_batch, peak):
    changed = {**DEFAULTS, "scale_lr": scale_lr, "batch_size": batch, "lr_batch": lr_batch}
    (stage,) = stages.parse(["name=a,epochs=1,size=32,lr=0.1"], changed, PARSERS, UNTOUCHED)
    assert stage.peak_lr == pytest.approx(peak)


@pytest.mark.parametrize("line, told", [
    ("name=a,epochs=1,size=32,lr=1,colour=red", "colour"),
    ("name=a,epochs=1,size=32,lr=1,colour=red", "warmup_epochs"),  # the known ones are listed
    ("name=a,epochs=1,size=32", "lr missing"),
    ("name=a,epochs=one,size=32,lr=1", "epochs=one"),
    ("name=a,epochs=-1,size=32,lr=1", "epochs=-1"),
    ("name=a,epochs=1,size=0,lr=1", "size=0"),
    ("name=a,epochs=1,size=32,lr=nan", "lr=nan"),
    ("name=a,epochs=1,size=32,lr=1,lr=2", "twice"),
    ("name=a,epochs=inf,size=32,lr=1", "epochs=inf"),
    ("name=a,epochs=1,size=32,lr=1:", "lr=1:"),
    ("name=a,epochs=1,size=32,lr=1:0", "above 0"),
    ("name=a/b,epochs=1,size=32,lr=1", "name"),
    ("name=a,epochs=1,size=32,lr=1,train=last:0", "last:0"),
    ("name=a,epochs=1,size=32,lr=1,train=tail", "tail"),
    ("all", "key=value"),
])
def test_mistakes_are_told_with_the_line(line, told):
    with pytest.raises(UserError, match="--stage") as caught:
        parse(line)
    assert told in str(caught.value)


def test_no_stage_at_all_is_a_mistake():
    with pytest.raises(UserError, match="--stage"):
        parse()
