"""From the last feature map to features: the mean, or GeM."""

from typing import Optional

import tensorflow as tf

from pipeline.errors import UserError
from pipeline.models import draws
from pipeline.models.top import GEM

NAME = "pool"    # of the layer
GEM_START = 3.0  # p at first (Radenović et al. 2018)
LEAST = 1e-6     # of a feature: below, its logarithm would be none
_POOL = -1  # the number of the pooling among the layers that draw: none of draws.by_step's


def pool(features: tf.Tensor, kind: str, channel_dropout: float, seed: int) -> tf.Tensor:
    """[B, h, w, C] or [B, C] in the compute dtype → [B, C] float32. Raises UserError for what wants a map where none is."""
    if features.shape.rank == 4:
        layer = GeM if kind == GEM else ChannelDropoutPooling
        return layer(channel_dropout, seed, dtype="float32", name=NAME)(features)
    if kind == GEM:
        raise UserError("--pool=gem: this network ends in features without a map, which it has pooled itself; leave "
                        "--pool=mean")
    if channel_dropout:
        raise UserError("--channel_dropout: this network ends in features without a map; give --dropout, which drops them")
    return tf.keras.layers.Activation("linear", dtype="float32", name=NAME)(features)


@tf.keras.utils.register_keras_serializable(package="fieldmark")
class ChannelDropoutPooling(tf.keras.layers.GlobalAveragePooling2D):
    """[B, h, w, C] → [B, C], the mean over all places; in training of a map whose channels are dropped whole.

    Each channel of each picture becomes 0 with probability `rate`, the others are divided by 1 − rate (Tompson et al. 2015,
    PyTorch's dropout2d). What is pooled of a channel that is 0 everywhere is 0 (GeM: all but), and of one that is divided it
    is divided too, so what is pooled is dropped, which is less.
    """

    def __init__(self, rate: float = 0.0, seed: int = 0, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = rate, seed

    def call(self, features: tf.Tensor, training: Optional[bool] = None) -> tf.Tensor:
        pooled = self._pooled(features)
        if not (training and self.rate):
            return pooled
        seed = draws.layer_seed(_POOL)
        if seed is None:
            return tf.nn.dropout(pooled, self.rate, seed=self.seed)
        return tf.nn.experimental.stateless_dropout(pooled, self.rate, seed)

    def _pooled(self, features: tf.Tensor) -> tf.Tensor:
        return super().call(features)

    def shares(self, features: tf.Tensor) -> tf.Tensor:
        """What each place gives: float32 [B, h, w, C], whose mean over the places is what is pooled of [B, h, w, C]."""
        return tf.cast(features, tf.float32)

    def get_config(self) -> dict:
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@tf.keras.utils.register_keras_serializable(package="fieldmark")
class GeM(ChannelDropoutPooling):
    """The generalized mean (mean of x^p)^(1/p) over all places, x at least LEAST, with one p, which is learned.

    Radenović et al. 2018, "Fine-tuning CNN image retrieval with no human annotation": p = 1 is the mean, and the greater
    p, the nearer to the maximum. Computed by logarithms, in which no power overflows or becomes 0, whatever p is.
    """

    def build(self, input_shape) -> None:
        self.p = self.add_weight("p", (), initializer=tf.keras.initializers.Constant(GEM_START), dtype="float32")
        super().build(input_shape)

    def _pooled(self, features: tf.Tensor) -> tf.Tensor:
        return tf.exp(self._log_pooled(_log(features))[:, 0, 0])

    def _log_pooled(self, logs: tf.Tensor) -> tf.Tensor:
        """[B, h, w, C] → [B, 1, 1, C], logarithms both."""
        places = float(logs.shape[1] * logs.shape[2])
        return (tf.reduce_logsumexp(self.p * logs, axis=[1, 2], keepdims=True) - tf.math.log(places)) / self.p

    def shares(self, features: tf.Tensor) -> tf.Tensor:
        logs = _log(features)
        return tf.exp(self.p * logs - (self.p - 1.0) * self._log_pooled(logs))


def _log(features: tf.Tensor) -> tf.Tensor:
    return tf.math.log(tf.maximum(tf.cast(features, tf.float32), LEAST))
