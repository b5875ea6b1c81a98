import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import pooling
from pipeline.models.classifier import build, needs_base_training, set_trainable

TINY = ["keras/efficientnet-tiny", "efficientnet/tiny", "kecam/EfficientNetV2Tiny", "kecam/BeitTiny"]
QUICK = "kecam/EfficientNetV2Tiny"  # the quickest to build
QUICK_FIRST = [pytest.param(name, marks=() if name in (QUICK, "kecam/BeitTiny") else pytest.mark.slow) for name in TINY]
PIXELS = np.random.RandomState(0).randint(0, 256, (4, 32, 32, 3)).astype(np.uint8)
PLACES = np.array([[0.5, -0.25, 1], [0.1, 0.9, 1], [0.7, 0.7, 0], [-1, 1, 1]], np.float32)


@pytest.fixture(params=["mixed_bfloat16", pytest.param("mixed_float16", marks=pytest.mark.slow)])
def mixed_policy(request):
    tf.keras.mixed_precision.set_global_policy(request.param)
    yield request.param
    tf.keras.mixed_precision.set_global_policy("float32")


@pytest.fixture(scope="module")
def keras_tiny():
    """For the tests that only look at which layers train."""
    return build("keras/efficientnet-tiny", 32, 7, base_training=False)


def _set_random(layer, seed=1):
    """Weights that differ from the initial ones, BatchNorm statistics included; positive, so variances stay valid."""
    random = np.random.RandomState(seed)
    layer.set_weights([np.abs(w + 0.1 * random.randn(*w.shape)).astype(w.dtype) for w in layer.get_weights()])


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_logits_of_bytes_and_floats(name):
    built = build(name, 32, 7)
    logits = built.model({"image": PIXELS})
    assert logits.shape == (4, 7) and logits.dtype == tf.float32
    np.testing.assert_array_equal(logits, built.model({"image": PIXELS.astype(np.float32)}))
    assert built.base.name == "base" and built.model.get_layer("base") is built.base
    assert built.head.name == "head" and built.model.layers[-1] is built.head
    assert set(built.model.input) == {"image"}


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_mixed_precision(name, mixed_policy):
    built = build(name, 32, 7, place_input=True)
    logits = built.model({"image": PIXELS, "place": PLACES})
    assert logits.dtype == tf.float32 and np.isfinite(logits).all()
    assert built.base.output.dtype == mixed_policy.replace("mixed_", "")
    for layer in built.model.layers:
        if layer is not built.base:
            assert layer.compute_dtype == "float32" or layer is built.place, layer.name
    assert {layer.compute_dtype for layer in built.place.layers} == {"float32"}
    # A checkpoint of one precision must restore in another.
    assert {w.dtype.name for w in built.model.weights} == {"float32"}


def test_pooling_is_float32_under_mixed_precision(mixed_policy):
    built = build(QUICK, 64, 7)
    features = built.base(built.model.get_layer("scaling")(tf.image.resize(PIXELS, (64, 64))))
    pooled = np.asarray(features).astype(np.float64).mean((1, 2))
    logits = pooled @ built.head.kernel.numpy() + built.head.bias.numpy()
    np.testing.assert_allclose(built.model({"image": tf.image.resize(PIXELS, (64, 64))}), logits, atol=1e-5)


def test_dropout_is_before_the_head_in_training_alone():
    plain, dropping = build(QUICK, 32, 7), build(QUICK, 32, 7, dropout=0.5)
    np.testing.assert_array_equal(plain.model({"image": PIXELS}), dropping.model({"image": PIXELS}))
    assert [weight.name for weight in plain.model.weights] == [weight.name for weight in dropping.model.weights]
    dropping.head.set_weights([np.ones(dropping.head.kernel.shape), np.zeros(7)])
    pooled = tf.keras.Model(dropping.model.input, dropping.model.get_layer("pool").output)({"image": PIXELS}).numpy()
    trained = dropping.model({"image": PIXELS}, training=True)[:, 0]
    assert (np.abs(trained - pooled.sum(axis=1)) > 1e-3).all()
    parts = np.stack([dropping.model.get_layer("dropout")(pooled, training=True) for _ in range(50)])
    assert (parts == 0).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_allclose(parts[parts != 0], np.broadcast_to(2 * pooled, parts.shape)[parts != 0], rtol=1e-6)


def test_beit_pools_like_its_library():
    """Mean over the patch tokens without the class token, then LayerNormalization; against kecam's own head."""
    from keras_cv_attention_models import beit

    built = build("kecam/BeitTiny", 32, 7)
    theirs = beit.Beit(
        depth=2, embed_dim=48, num_heads=3, input_shape=(32, 32, 3), num_classes=7, classifier_activation=None
    )
    weighted = [layer.name for layer in theirs.layers if layer.weights]
    assert weighted == [layer.name for layer in built.base.layers if layer.weights] + ["predictions"]
    _set_random(built.base)
    theirs.set_weights(built.model.get_weights())
    expected = theirs(PIXELS.astype(np.float32) / 127.5 - 1)
    np.testing.assert_allclose(built.model({"image": PIXELS}), expected, rtol=1e-4, atol=1e-4)


def test_initial_values_depend_on_the_seed_alone():
    first = build(QUICK, 32, 7, seed=3).model.get_weights()
    tf.random.normal([7])
    again = build(QUICK, 64, 7, seed=3).model.get_weights()
    other = build(QUICK, 32, 7, seed=4)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[-2], other.head.kernel)
    assert not np.array_equal(first[0], other.base.get_weights()[0])


def test_head_is_glorot_uniform():
    kernel = build(QUICK, 32, 50).head.kernel.numpy()
    limit = np.sqrt(6 / sum(kernel.shape))
    assert 0.97 * limit < np.abs(kernel).max() <= limit
    assert kernel.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)


def _batch_norms(model):
    return [layer for layer in model.layers if isinstance(layer, tf.keras.layers.BatchNormalization)]


def _statistics(built):
    return [w.numpy() for bn in _batch_norms(built.base) for w in (bn.moving_mean, bn.moving_variance)]


def _step(built):
    labels = tf.constant([0, 1, 2, 3])
    with tf.GradientTape() as tape:
        logits = built.model({"image": PIXELS}, training=True)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
    variables = built.model.trainable_variables
    gradients = tape.gradient(loss, variables)
    assert all(g is not None for g in gradients)
    tf.keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, variables))


@pytest.mark.parametrize("train,changes", [("all", True), ("last:18", False), ("head", False)])
def test_batch_norm_statistics_in_a_step(train, changes):
    built = build("keras/efficientnet-tiny", 32, 7, base_training=needs_base_training(train))
    set_trainable(built, train)
    before, kernel = _statistics(built), built.base.get_layer("top_conv").kernel.numpy()
    stem = built.base.get_layer("stem_conv").kernel.numpy()
    _step(built)
    changed = [not np.array_equal(a, b) for a, b in zip(before, _statistics(built))]
    assert all(changed) if changes else not any(changed)
    # last:18 trains its layers nevertheless, and no others.
    assert np.array_equal(kernel, built.base.get_layer("top_conv").kernel) == (train == "head")
    assert np.array_equal(stem, built.base.get_layer("stem_conv").kernel) == (train != "all")


def test_inference_mode_base_gives_the_same_logits_in_training():
    built = build(QUICK, 32, 7, base_training=False)
    _set_random(built.base)
    np.testing.assert_array_equal(
        built.model({"image": PIXELS}, training=True), built.model({"image": PIXELS}, training=False)
    )


def test_last_n_counts_layers_of_the_base(keras_tiny):
    built = keras_tiny
    assert set_trainable(built, "last:18") is False
    layers = built.base.layers
    assert [layer.trainable for layer in layers] == [False] * (len(layers) - 18) + [True] * 18
    wanted = sum(len(layer.trainable_weights) for layer in layers[-18:])
    assert wanted > 0 and len(built.base.trainable_weights) == wanted
    assert len(built.model.trainable_weights) == wanted + 2
    # The end of the base is the end of the library's own model (test_zoo), where the solution counted its 18.
    assert set_trainable(built, f"last:{len(layers)}") is False
    assert all(layer.trainable for layer in layers)


def test_from_layer_head_and_all(keras_tiny):
    built = keras_tiny
    assert set_trainable(built, "from:block6a_expand_conv") is True
    names = [layer.name for layer in built.base.layers]
    first = names.index("block6a_expand_conv")
    assert [layer.trainable for layer in built.base.layers] == [i >= first for i in range(len(names))]
    assert set_trainable(built, "head") is False
    assert built.model.trainable_weights == built.head.trainable_weights
    assert set_trainable(built, "all") is True
    assert len(built.model.trainable_weights) == len(built.base.trainable_weights) + 2 > 50


def test_wrong_train_values(keras_tiny):
    built = keras_tiny
    for wrong in ("", "tail", "last", "last:", "last:0", "last:-3", "last:x", "from:", "all:1"):
        with pytest.raises(UserError, match="known: probe, head, all, last:N .*, from:LAYER"):
            needs_base_training(wrong)
    with pytest.raises(UserError, match="has 101 layers only"):
        set_trainable(built, "last:102")
    with pytest.raises(UserError, match="no layer 'block6a_expand'; near it: .*block6a_expand_conv"):
        set_trainable(built, "from:block6a_expand")
    with pytest.raises(UserError, match="no layer '###'; it has stem_conv_pad to top_activation"):
        set_trainable(built, "from:###")


@pytest.mark.parametrize("name", QUICK_FIRST[:3])
def test_sizes_share_weights_and_checkpoints(name, tmp_path):
    small, large = build(name, 32, 7, seed=1), build(name, 64, 7, seed=2)
    large.model.set_weights(small.model.get_weights())
    np.testing.assert_array_equal(small.head.kernel, large.head.kernel)

    _set_random(small.base)
    path = tf.train.Checkpoint(base=small.base, head=small.head).save(str(tmp_path / "checkpoint"))
    other = build(name, 64, 7, base_training=False, seed=2)
    tf.train.Checkpoint(base=other.base, head=other.head).restore(path).assert_existing_objects_matched()
    for a, b in zip(small.model.get_weights(), other.model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_whole_checkpoint_across_sizes_with_place(tmp_path):
    small, large = (build(QUICK, s, 7, place_input=True, seed=s) for s in (32, 64))
    path = tf.train.Checkpoint(model=small.model).save(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=large.model).restore(path).assert_existing_objects_matched()
    np.testing.assert_array_equal(small.place.get_weights()[0], large.place.get_weights()[0])


def test_place_input():
    built = build(QUICK, 32, 7, place_input=True)
    shapes = {key: tuple(tensor.shape) for key, tensor in built.model.input.items()}
    assert shapes == {"image": (None, 32, 32, 3), "place": (None, 3)}
    assert built.head.kernel.shape[0] == built.base.output_shape[-1] + 4
    assert [type(layer).__name__ for layer in built.place.layers[2:]] == ["Dense", "BatchNormalization", "ReLU"] * 2
    _set_random(built.place)
    logits = built.model({"image": PIXELS, "place": PLACES})
    unknown = PLACES.copy()
    unknown[2, :2] = np.nan  # the record without a place
    np.testing.assert_array_equal(logits, built.model({"image": PIXELS, "place": unknown}))
    elsewhere = PLACES * np.array([-1, -1, 1], np.float32)
    differs = np.abs(logits - built.model({"image": PIXELS, "place": elsewhere})).max(1) > 1e-6
    assert differs.tolist() == [True, True, False, True]


def test_a_frozen_place_branch_stays_as_it_is():
    """In training too, with its BatchNorm's statistics; the head trains."""
    built = build(QUICK, 32, 7, place_input=True)
    _set_random(built.place)
    features = {"image": PIXELS, "place": PLACES}
    for freeze in (True, False):
        set_trainable(built, "all", freeze)
        before = [weight.copy() for weight in built.place.get_weights()]
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(built.model(features, training=True) ** 2)
        trained = {variable.ref() for variable in built.model.trainable_variables}
        of_place = {variable.ref() for variable in built.place.variables}
        assert bool(trained & of_place) is not freeze and built.head.kernel.ref() in trained
        assert tape.gradient(loss, built.head.kernel) is not None
        same = [np.array_equal(one, other) for one, other in zip(before, built.place.get_weights())]
        assert all(same) is freeze  # the statistics alone move without a step


def test_other_scaling_on_request():
    built = build(QUICK, 32, 7, scaling="01")
    assert built.model.get_layer("scaling").mode == "01"
    assert build(QUICK, 32, 7).model.get_layer("scaling").mode == "torch"
    with pytest.raises(UserError, match="unknown input scaling 'x'"):
        build(QUICK, 32, 7, scaling="x")


@pytest.mark.parametrize("name", QUICK_FIRST)
def test_xla_compiles(name):
    built = build(name, 32, 7)
    compiled = tf.function(lambda x: built.model({"image": x}, training=False), jit_compile=True)
    np.testing.assert_allclose(compiled(PIXELS), built.model({"image": PIXELS}), rtol=1e-3, atol=1e-4)


# Channel dropout, initial head

def test_channel_dropout_drops_whole_channels_of_each_picture_and_scales_up_the_others():
    channels, rate = 400, 0.25
    feature_map = tf.random.stateless_uniform([8, 5, 4, channels], [1, 2], 1.0, 2.0)
    layer = pooling.ChannelDropoutPooling(rate, seed=3)
    means = tf.reduce_mean(feature_map, axis=[1, 2]).numpy()
    pooled = layer(feature_map, training=True).numpy()
    dropped = pooled == 0
    # What a map whose channels are 0 or divided by 1 - rate has as its means.
    np.testing.assert_allclose(pooled, np.where(dropped, 0, means / (1 - rate)), rtol=1e-5)
    assert abs(dropped.mean() - rate) < 0.03 and (dropped[0] != dropped[1]).any()
    np.testing.assert_allclose(layer(feature_map, training=False), means, rtol=1e-6)


def test_a_classifier_drops_channels_in_training_alone():
    plain, dropping = build(QUICK, 32, 7), build(QUICK, 32, 7, channel_dropout=0.5)
    pictures = {"image": PIXELS[[0, 0, 1, 2]]}
    same = [one.model(pictures, training=False).numpy() for one in (plain, dropping)]
    np.testing.assert_array_equal(*same)
    (first, twin), (plain_first, plain_twin) = (one.model(pictures, training=True).numpy()[:2] for one in (dropping, plain))
    assert np.abs(first - twin).max() > 1e-3 > np.abs(plain_first - plain_twin).max()  # of the same picture
    assert [layer.name for layer in plain.model.layers] == [layer.name for layer in dropping.model.layers]


def test_channel_dropout_wants_a_map():
    with pytest.raises(UserError, match="channel_dropout.*--dropout"):
        build("kecam/BeitTiny", 32, 3, channel_dropout=0.5)


def test_a_kaiming_head_has_hes_standard_deviation():
    built = build(QUICK, 32, 1000, head_init="kaiming")
    kernel = built.head.kernel.numpy()
    assert kernel.std() == pytest.approx(np.sqrt(2 / kernel.shape[0]), rel=0.02)
    assert abs(kernel).max() > 3.5 * kernel.std()  # normal, and not cut off
    assert not built.head.bias.numpy().any()
    np.testing.assert_array_equal(kernel, build(QUICK, 32, 1000, head_init="kaiming").head.kernel)
