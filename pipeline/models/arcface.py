"""The embedding and the head of --loss=arcface: logits are scaled cosines between a picture and its classes' centres.

Deng et al. 2019, "ArcFace: Additive angular margin loss for deep face recognition", and 2020, "Sub-center ArcFace: Boosting
face recognition by large-scale noisy web faces". The margin is the training loss' alone (training.losses), so that the network
needs no labels and predicts by plain cosines.
"""

import tensorflow as tf

from pipeline.models.top import ArcFace

EMBEDDING = "embedding"  # name of the layer whose output the embedding is

_SMALLEST = 1e-12  # squared length; keeps a gradient where everything is 0


def unit(vectors: tf.Tensor, axis: int = -1) -> tf.Tensor:
    """Of length 1 along an axis."""
    return tf.math.l2_normalize(vectors, axis, _SMALLEST)


def embed(features: tf.Tensor, settings: ArcFace, seed: int) -> tf.Tensor:
    """[B, C] → the embedding [B, embedding_dim], both float32.

    FC–BN, the end of what Deng et al. call option E (BN–Dropout–FC–BN; our dropout stands before). As in their code the
    BatchNorm has an offset and no scale, its variance's epsilon is 1e-5 and its statistics keep 0.9 at each step.
    """
    nn = tf.keras.layers.Dense(settings.embedding_dim, use_bias=False, dtype="float32", name="embedding_dense",
                               kernel_initializer=tf.keras.initializers.GlorotUniform(seed))(features)
    return tf.keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, scale=False, dtype="float32", name=EMBEDDING)(nn)


@tf.keras.utils.register_keras_serializable(package="fieldmark")
class CosineHead(tf.keras.layers.Layer):
    """[B, D] → [B, units] float32: scale times the cosine between a picture and each class' nearest centre.

    kernel: [D, units · subcentres], those of a class together; its columns' lengths mean nothing.
    """

    def __init__(self, units: int, scale: float, subcentres: int = 1, kernel_initializer="glorot_uniform", **kwargs):
        super().__init__(**kwargs)
        self.units, self.scale, self.subcentres = units, scale, subcentres
        self.kernel_initializer = tf.keras.initializers.get(kernel_initializer)

    def build(self, input_shape) -> None:
        self.kernel = self.add_weight("kernel", (input_shape[-1], self.units * self.subcentres), dtype="float32",
                                      initializer=self.kernel_initializer)
        super().build(input_shape)

    def call(self, embedding: tf.Tensor) -> tf.Tensor:
        cosines = tf.matmul(unit(embedding), unit(self.kernel, axis=0))
        if self.subcentres > 1:
            cosines = tf.reduce_max(tf.reshape(cosines, [-1, self.units, self.subcentres]), axis=-1)
        return self.scale * cosines

    def get_config(self) -> dict:
        return {**super().get_config(), "units": self.units, "scale": self.scale, "subcentres": self.subcentres,
                "kernel_initializer": tf.keras.initializers.serialize(self.kernel_initializer)}
