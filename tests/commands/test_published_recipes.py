"""The recipes of the published solutions: their settings are the authors', and Turtle Recall's networks have their size."""

import dataclasses

import pytest
import tensorflow as tf

from conftest import ROOT
from pipeline.experiment import plan
from pipeline.models import zoo
from pipeline.training import layer_rates, patience, schedules
from recipe_flags import CONFIGS, python, read, settings_of

# Model, weights, batch, rate, monitor, published millions of parameters without the head, at 512 px.
TURTLE_RECALL = {
    "ef1b7": ("efficientnet/b7", "imagenet", 64, 5e-4, "val_accuracy", 64.1),
    "beitl": ("kecam/BeitLargePatch16", "imagenet21k-ft1k", 32, 5e-5, "val_loss", 304.6),
    "ef1l2_a": ("kecam/EfficientNetV1L2", "noisy_student", 32, 5e-5, "val_loss", 475.9),
    "ef1l2_b": ("kecam/EfficientNetV1L2", "noisy_student", 32, 5e-5, "val_loss", 475.9),
    "ef2xl": ("kecam/EfficientNetV2XL", "imagenet21k-ft1k", 64, 1e-4, "val_accuracy", 207.6),
    "ef2l": ("kecam/EfficientNetV2L", "imagenet", 64, 5e-4, "val_loss", 117.7),
}


@pytest.mark.parametrize("name", TURTLE_RECALL)
def test_turtle_recall_is_as_published(name):
    recipe = read(CONFIGS / "turtle_recall" / f"{name}.flags")
    model, weights, batch, rate, monitor, _ = TURTLE_RECALL[name]
    assert (recipe["model"], recipe["weights"]) == (model, weights) and weights in zoo.find(model).weights
    assert (recipe["num_classes"], recipe["precision"], recipe["tta"], recipe["input_scaling"]) == (2265, "float32", "none", "01")
    assert recipe["fold"] == "all"
    stage, = recipe["stages"]
    assert (stage.size, stage.epochs, stage.train, stage.batch_size) == (512, 200, "all", batch)
    assert stage.peak_lr == stage.lr == rate
    assert (stage.optimizer, stage.augment, stage.randaugment, stage.label_smoothing) == ("adam", "rot45:nearest", "", 0)
    assert (stage.lr_schedule, stage.early_stop, stage.monitor) == ("plateau:0.5:4", 8, monitor)
    assert (patience.MIN_DELTA, patience.LOWEST_RATE) == (1e-4, 1e-8)


@pytest.mark.parametrize("name", TURTLE_RECALL)
def test_ours_for_turtle_recall_is_the_published_one_by_ten_views(name):
    published, ours = (read(CONFIGS / "turtle_recall" / folder / f"{name}.flags") for folder in ("", "ours"))
    assert (ours["tta"], {stage.augment for stage in ours["stages"]}) == ("rot45", {"rot45"})
    as_published = tuple(dataclasses.replace(stage, augment="rot45:nearest", antialias=False) for stage in ours["stages"])
    assert {**ours, "tta": "none", "input_scaling": "01", "stages": as_published} == published
    model, weights = ours["model"], ours["weights"]
    assert ours["input_scaling"] == zoo.find(model).weights[weights]  # as its weights were trained


def test_inat2017_is_as_published():
    recipe = read(CONFIGS / "inat2017" / "resnet152.flags")
    assert (recipe["model"], recipe["num_classes"]) == ("keras/resnet152", 5089)
    stage, = recipe["stages"]
    assert (stage.size, stage.epochs, stage.train, stage.batch_size) == (320, 30, "all", 48)
    assert (stage.augment, stage.min_crop, stage.antialias, stage.eval_resize) == ("inception", 0.3, False, "short:360:cubic")
    assert (stage.jitter, stage.pca_noise, stage.randaugment, stage.label_smoothing) == (0.4, 0.1, "", 0)
    assert (stage.optimizer, stage.momentum, stage.weight_decay, stage.warmup_epochs) == ("sgd", 0, 0, 0)
    rate = schedules.make_rate(stage.lr_schedule, stage.peak_lr, 0, 300, 10, stage.lr_factor)
    assert [float(rate(step)) for step in (0, 99, 100, 199, 200, 299)] == pytest.approx(
        [0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])
    assert (recipe["tta"], "21" in stage.keep_epochs.split(":")) == ("none", True)


def test_inat2017_is_stored_and_predicted_as_published(monkeypatch):
    monkeypatch.chdir(ROOT)
    by_run = settings_of(CONFIGS / "inat2017" / "run.flags")
    assert plan.record_flags(by_run) == ["--short_side=512"] and by_run.passed_on["predict_flags"] == ["--checkpoint=21"]


IMET2019 = {  # network, groups, rates, train, decay, schedule, warm-up, crop of the second stage
    "master_seresnext50": ("seresnext50", "conv2d_44:head", (1e-5, 8e-5, 5e-4), "all", 0.05, "triangular:5", 0, "crop:640"),
    "master_seresnext101": ("seresnext101", "conv2d_44:head", (1e-5, 8e-5, 5e-4), "all", 0.05, "triangular:5", 0, "crop:640"),
    "freezing_seresnext101": ("seresnext101", "conv2d_31:conv2d_124:head", (1e-5, 3e-5, 1e-4, 3e-4), "from:conv2d_31", 0.1,
                              "cosine", 3, "crop:650")}


@pytest.mark.parametrize("name", IMET2019)
def test_imet2019s_two_lines_are_as_published(name):
    recipe = read(CONFIGS / "imet2019" / f"{name}.flags")
    network, groups, rates, train_, decay, schedule, warmup, crop = IMET2019[name]
    assert (recipe["model"], recipe["weights"]) == (f"image_classifiers/{network}", "imagenet")
    assert (recipe["num_classes"], recipe["dropout"], recipe["fold"], recipe["tta"]) == (1103, 0.25, "all", "crops")
    head, second = recipe["stages"]
    assert (head.epochs, head.train, head.lr, head.weight_decay, head.lr_schedule) == (0.5, "head", 2e-3, 0.1, "triangular:4")
    assert (head.mixup, list(head.lower_lrs)) == (0, [])
    assert (second.epochs, second.groups, (*second.lower_lrs, second.lr), second.train) == (11, groups, rates, train_)
    assert (second.weight_decay, second.lr_schedule, second.warmup_epochs) == (decay, schedule, warmup)
    assert (second.mixup, second.mixup_draw, second.early_stop, second.validate_every) == (0.2, "picture", 4, 0.5)
    for stage in recipe["stages"]:
        assert (stage.size, stage.augment, stage.antialias, stage.eval_resize) == (320, "imet", False, crop)
        assert (stage.clip_norm, stage.batch_size, stage.peak_lr, stage.optimizer) == (10, 48, stage.lr, "adamw")
        assert (stage.loss, stage.focal_alpha, stage.focal_gamma, stage.monitor) == ("focal", 0.5, 0.25, "val_f2")


def test_imet2019s_lines_name_no_score_of_the_other():
    for line, own, other in (("master", ("0.622", "0.614"), ("0.625", "0.629")),
                             ("freezing", ("0.625", "0.629"), ("0.622", "0.614"))):
        for path in (CONFIGS / "imet2019").glob(f"{line}_*.flags"):
            text = path.read_text()
            assert all(score in text for score in own) and not any(score in text for score in other)
    for path in (CONFIGS / "imet2019" / "ours").glob("*resnext*.flags"):
        assert "0.62" not in path.read_text() and "no\n# score" in path.read_text()


def first_layers_of_blocks(base):
    """The first layer with weights of every residual block but the first, by the sums that end the blocks; and at which
    of them another group of blocks begins, by the features' side."""
    layers = base.layers
    ends = [index for index, layer in enumerate(layers) if isinstance(layer, tf.keras.layers.Add)]
    first = [next(layer.name for layer in layers[end:] if layer.weights) for end in ends[:-1]]
    sides = [layers[end].output_shape[1] for end in ends]
    return first, [index for index in range(len(first)) if sides[index + 1] < sides[index]]


@pytest.mark.parametrize("network, blocks", [("seresnext50", (3, 4, 6, 3)), ("seresnext101", (3, 4, 23, 3))])
def test_imet2019s_layer_groups_begin_where_published(network, blocks):
    first, borders = first_layers_of_blocks(zoo.build_base(f"image_classifiers/{network}", 64))
    assert borders == [2, 6, 6 + blocks[2]] and len(first) == sum(blocks) - 1
    third = borders[1]  # the last block of the second group; the next ones are the third's
    wanted = {"master": first[third + 3], "freezing": f"{first[third]}:{first[borders[2]]}"}
    found = {name.split("_")[0]: layers.removesuffix(":head") for name, (of, layers, *_) in IMET2019.items() if of == network}
    assert found and found == {line: wanted[line] for line in found}


@pytest.mark.parametrize("name, sees", [
    ("coarse", {"augment": "crop", "eval_resize": "short:512", "rotate": 15.0, "grid_mask": 0.1}),
    ("fine", {"augment": "mask", "rotate": 0.0, "grid_mask": 0.0})])
def test_inat2019_is_as_published(name, sees):
    recipe = read(CONFIGS / "inat2019" / f"{name}.flags")
    assert (recipe["model"], recipe["weights"], recipe["num_classes"]) == ("image_classifiers/senet154", "imagenet", 1010)
    assert (recipe["channel_dropout"], recipe["dropout"], recipe["head_init"]) == (0.25, 0.0, "kaiming")
    assert (recipe["pixel_mean"], recipe["pixel_std"]) == ("115.75:120.83:93.49", "50.46:50.08:49.67")
    assert (recipe["boxes"], recipe["tta"]) == (("coarse", "mask16") if name == "fine" else (None, "none"))
    stage, = recipe["stages"]
    assert (stage.size, stage.epochs, stage.train, stage.batch_size) == (448, 32, "all", 14)
    assert (stage.optimizer, stage.momentum, stage.nesterov, stage.l2, stage.decay_all) == ("sgd", 0.9, True, 5e-4, True)
    assert (stage.weight_decay, stage.label_smoothing, stage.warmup_epochs, stage.randaugment) == (0, 0, 0, "")
    assert {key: getattr(stage, key) for key in sees} == sees
    assert (*stage.lower_lrs, stage.peak_lr) == (0.0, 0.004, 0.04)
    rate = schedules.make_rate(stage.lr_schedule, stage.peak_lr, 0, 320, 10, stage.lr_factor)
    assert [float(rate(10 * epoch)) for epoch in range(32)] == pytest.approx(
        [0.04 * (1 - abs(2 * (1 + epoch) / 33 - 1)) for epoch in range(32)])


def test_inat2019s_frozen_group_is_the_stem_and_the_first_three_blocks():
    stage, = read(CONFIGS / "inat2019" / "fine.flags")["stages"]
    base = zoo.build_base("image_classifiers/senet154", 64)
    assert base.count_params() == 113_287_536
    factors = layer_rates.base_factors(base.layers, stage)
    frozen = [layer for layer, factor in zip(base.layers, factors) if factor == 0]
    assert sum(isinstance(layer, tf.keras.layers.Add) for layer in frozen) == 3
    assert sorted(set(factors)) == pytest.approx([0.0, 0.1])
    # The blocks after them begin with a convolution of what the third has added.
    assert base.layers[len(frozen)].input is frozen[-1].output and frozen[-1].input is frozen[-2].output


def test_inat2019_submits_the_fine_model_alone_divided_by_the_classs_shares(monkeypatch):
    monkeypatch.chdir(ROOT)
    read_by_run = settings_of(CONFIGS / "inat2019" / "run.flags")
    assert [recipe.name for recipe in read_by_run.recipes] == ["coarse", "fine"]
    assert [recipe.name for recipe in read_by_run.answering] == ["fine"]
    assert read_by_run.passed_on["prior_flags"] == ["--prior_correction=1"]
    assert "--masks" in read_by_run.passed_on["localize_flags"]


def test_two_runs_of_one_network_differ_in_their_seeds():
    first, second = (read(CONFIGS / "turtle_recall" / f"ef1l2_{run}.flags") for run in "ab")
    assert {name for name in first if first[name] != second[name]} == {"random_seed"}


BUILD = """
import sys
from pipeline.models import classifier
built = classifier.build(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), weights="none")
assert built.model.output_shape == (None, int(sys.argv[3])) and built.model.output.dtype == "float32"
print(built.base.count_params())
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", {one[0]: name for name, one in TURTLE_RECALL.items()}.values())  # each network once
def test_turtle_recalls_networks_have_the_published_size(name):
    """A process each, as L2 takes 3 GB."""
    recipe, published = read(CONFIGS / "turtle_recall" / f"{name}.flags"), TURTLE_RECALL[name][-1]
    parameters = int(python(BUILD, recipe["model"], recipe["stages"][0].size, recipe["num_classes"]))
    assert abs(parameters / 1e6 - published) <= 0.05, parameters
