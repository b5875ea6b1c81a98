import numpy as np
import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models.scaling import MODES, Scaling
from pipeline.training import flags as training_flags

PIXELS = np.random.RandomState(0).randint(0, 256, (2, 5, 4, 3)).astype(np.uint8)


@pytest.fixture
def bfloat16_policy():
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    yield
    tf.keras.mixed_precision.set_global_policy("float32")


def test_the_flag_knows_the_modes():
    assert training_flags.INPUT_SCALINGS == MODES


@pytest.mark.parametrize("mode", ["tf", "torch", "caffe"])
def test_keras_preprocess_input(mode):
    expected = tf.keras.applications.imagenet_utils.preprocess_input(PIXELS.astype(np.float32), mode=mode)
    np.testing.assert_allclose(Scaling(mode)(PIXELS), expected, atol=1e-5)


@pytest.mark.parametrize(
    "mode,theirs", [("tf", "tf"), ("tf128", "tf128"), ("torch", "torch"), ("01", "raw01"), ("raw", "raw")]
)
def test_kecam_preprocess_input(mode, theirs):
    from keras_cv_attention_models.common_layers import PreprocessInput

    expected = PreprocessInput(input_shape=PIXELS.shape[1:], rescale_mode=theirs)(PIXELS)
    np.testing.assert_allclose(Scaling(mode)(PIXELS), expected, atol=1e-5)


def test_preprocess_input_of_efficientnet_and_resnet():
    import efficientnet.tfkeras

    expected = efficientnet.tfkeras.preprocess_input(PIXELS.astype(np.float32))
    np.testing.assert_allclose(Scaling("torch")(PIXELS), expected, atol=1e-5)
    expected = tf.keras.applications.resnet.preprocess_input(PIXELS.astype(np.float32))
    np.testing.assert_allclose(Scaling("caffe")(PIXELS), expected, atol=1e-4)


def test_by_hand():
    black_to_white = np.array([[[[0, 128, 255]]]], np.uint8)
    np.testing.assert_allclose(Scaling("01")(black_to_white).numpy().ravel(), [0, 128 / 255, 1], atol=1e-6)
    np.testing.assert_allclose(Scaling("tf128")(black_to_white).numpy().ravel(), [-1, 0, 127 / 128], atol=1e-6)
    np.testing.assert_allclose(Scaling("raw")(black_to_white).numpy().ravel(), [0, 128, 255])
    np.testing.assert_allclose(
        Scaling("caffe")(black_to_white).numpy().ravel(), [255 - 103.939, 128 - 116.779, -123.68], atol=1e-4
    )


@pytest.mark.parametrize("mode", MODES)
def test_float32_whatever_the_policy_and_the_input(mode, bfloat16_policy):
    layer = Scaling(mode)
    scaled = layer(PIXELS)
    assert scaled.dtype == tf.float32
    np.testing.assert_array_equal(scaled, layer(PIXELS.astype(np.float32)))
    tf.keras.mixed_precision.set_global_policy("float32")
    np.testing.assert_array_equal(scaled, Scaling(mode)(PIXELS))


def test_serializable(bfloat16_policy):
    layer = tf.keras.layers.deserialize(tf.keras.layers.serialize(Scaling("torch", name="scaling")))
    assert (layer.name, layer.mode, layer.compute_dtype, layer.trainable) == ("scaling", "torch", "float32", False)


def test_unknown_mode_lists_the_known():
    with pytest.raises(UserError, match="unknown input scaling 'tanh'.*caffe.*torch"):
        Scaling("tanh")
