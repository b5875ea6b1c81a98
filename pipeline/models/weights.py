"""Weights from elsewhere: a library's own by name, or an .h5 file, layer by layer, with nothing left to chance."""

import contextlib
import io
from dataclasses import dataclass
from typing import Iterator, Optional

import h5py
import numpy as np
import tensorflow as tf
from absl import logging

from pipeline.errors import UserError
from pipeline.models.scaling import IMAGENET_MEAN

_LISTED = 8  # layers named in an error before it says how many more

LayerWeights = dict[str, list[np.ndarray]]  # layer name → arrays in the order of the layer's `weights`


@dataclass(frozen=True)
class Source:
    """Where weights come from: at most one of `library` (its own name) and `path` (.h5); and the scaling they want."""

    library: Optional[str]
    path: Optional[str]
    scaling: str


def resolve(model_name: str, spec, weights: str) -> Source:
    """What --weights means for a model: "none", a name of the library's (- and _ are the same), or a path to an .h5.

    spec: the zoo.ModelSpec of `model_name`. A path is not looked at.
    """
    if weights == "none":
        return Source(None, None, spec.scaling)
    for known, scaling in spec.weights.items():
        if weights.replace("_", "-") == known.replace("_", "-"):
            return Source(known, None, scaling)
    if weights.endswith((".h5", ".hdf5")):
        return Source(None, weights, spec.scaling)
    known = ", ".join(["none", *spec.weights])
    raise UserError(f"unknown weights {weights!r} for {model_name}; known: {known}, or a path to an .h5 file")


@contextlib.contextmanager
def download(model_name: str, weights: str) -> Iterator[None]:
    """Around the building of a model with the library's own weights: a failed download becomes a UserError."""
    logging.info("weights %s of %s: from Keras' cache, or downloaded", weights, model_name)
    advice = "give --weights=none or a path to an .h5 file"
    try:
        yield
    except OSError as error:
        raise UserError(f"could not download weights {weights!r} of {model_name} ({error}); {advice}") from error
    except Exception as error:
        # tf.keras.utils.get_file raises a bare Exception, or ValueError for a file cut short; the rest isn't ours.
        if not str(error).startswith(("URL fetch failure", "Incomplete or corrupted file")):
            raise
        raise UserError(f"could not download weights {weights!r} of {model_name} ({error}); {advice}") from error


def load_h5(path: str, base: tf.keras.Model, head: Optional[tf.keras.layers.Layer] = None) -> bool:
    """Sets all weights of `base`, and those of `head` if they fit, from a Keras .h5 file; whether the head was set.

    Reads `model.save_weights("x.h5")` and `model.save("x.h5")`, of the network with any top, or of our whole classifier
    (a layer named "base" that holds the network). Layers are matched by name. One that is missing, has other shapes or
    is in the file only (a deeper variant would otherwise load into a shallower one) is a UserError; what follows
    the base in the file is its head, taken when it is a Dense or 1×1 convolution of exactly our shape.
    """
    layers = _read(path)
    names = {layer.name for layer in base.layers if layer.weights}
    positions = [i for i, name in enumerate(layers) if name in names]
    end = positions[-1] + 1 if positions else len(layers)
    own, after = dict(list(layers.items())[:end]), dict(list(layers.items())[end:])
    _drop_normalization(path, own, names)
    problems = _misfits(base, own)
    if problems:
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise UserError(f"weights file {path} does not fit the model: {'; '.join(problems[:_LISTED])}{more}")
    for layer in base.layers:
        if layer.weights:
            _set(layer, own[layer.name])
    return head is not None and _load_head(path, after, head)


def copy_weights(source: tf.keras.Model, target: tf.keras.Model) -> None:
    """Copies a base's weights into the same network built at another size, resizing tables of relative positions."""
    for layer in source.layers:
        if layer.weights:
            _set(target.get_layer(layer.name), layer.get_weights())


def _resizable(layer: tf.keras.layers.Layer, arrays: list[np.ndarray]) -> bool:
    # kecam's MultiHeadRelativePositionalEmbedding: one table [heads, positions] that grows with the picture.
    return (
        hasattr(layer, "load_resized_weights")
        and len(layer.weights) == len(arrays) == 1
        and arrays[0].ndim == 2
        and layer.weights[0].shape[0] == arrays[0].shape[0]
    )


def _fits(layer: tf.keras.layers.Layer, arrays: list[np.ndarray]) -> bool:
    return [tuple(w.shape) for w in layer.weights] == [a.shape for a in arrays]


def _set(layer: tf.keras.layers.Layer, arrays: list[np.ndarray]) -> None:
    if _fits(layer, arrays):
        layer.set_weights(arrays)
    else:
        layer.load_resized_weights({"positional_embedding:0": arrays[0]})


def _misfits(base: tf.keras.Model, layers: LayerWeights) -> list[str]:
    problems, wanted = [], set()
    for layer in base.layers:
        if not layer.weights:
            continue
        wanted.add(layer.name)
        arrays = layers.get(layer.name)
        if arrays is None:
            problems.append(f"{layer.name} is not in the file")
        elif not _fits(layer, arrays) and not _resizable(layer, arrays):
            shapes = [tuple(w.shape) for w in layer.weights]
            problems.append(f"{layer.name} has shapes {[a.shape for a in arrays]}, the model's are {shapes}")
    return problems + [f"{name} is not in the model" for name in layers if name not in wanted]


def _drop_normalization(path: str, layers: LayerWeights, names: set[str]) -> None:
    """Leaves out the Normalization of keras.applications' EfficientNet, which `zoo` cuts off for our Scaling."""
    for name in [n for n in layers if n.startswith("normalization") and n not in names]:
        mean, variance = layers.pop(name)[:2]
        if not np.allclose(np.ravel(mean), IMAGENET_MEAN, atol=1e-3):
            logging.warning(
                "%s normalizes its input inside (mean %s, variance %s after / 255); that is left out, ImageNet's used",
                path, np.ravel(mean), np.ravel(variance),
            )


def _load_head(path: str, layers: LayerWeights, head: tf.keras.layers.Layer) -> bool:
    candidates = [(n, arrays) for n, arrays in layers.items() if len(arrays) == 2 and arrays[0].ndim in (2, 4)]
    if not candidates:
        logging.info("weights file %s has no head; ours starts from random values", path)
        return False
    name, (kernel, bias) = candidates[-1]
    if kernel.shape[:-2] == (1, 1):
        kernel = kernel[0, 0]
    if not _fits(head, [kernel, bias]):
        logging.info(
            "head %s of weights file %s left out: its kernel is %s, ours %s; ours starts from random values",
            name, path, kernel.shape, tuple(head.weights[0].shape),
        )
        return False
    head.set_weights([kernel, bias])
    logging.info("head %s taken from weights file %s", name, path)
    return True


def check_h5(path: str) -> None:
    """A UserError if `path` is no .h5 file of Keras weights; for a look before a large network is built."""
    with _opened(path):
        pass


def layer_names(path: str) -> set[str]:
    """The layers of an .h5 file that have weights."""
    return set(_read(path))


def _read(path: str) -> LayerWeights:
    """All layers that have weights, in the order of the file."""
    with _opened(path) as root:
        try:
            return _layers(root)
        except (KeyError, TypeError, ValueError, AttributeError) as error:  # it lists what is not there, or no arrays
            raise UserError(f"weights file {path} lists what it does not hold: {error}") from None


@contextlib.contextmanager
def _opened(path: str) -> Iterator[h5py.Group]:
    """The group of a weights file that lists its layers."""
    if not tf.io.gfile.exists(path) or tf.io.gfile.isdir(path):
        raise UserError(f"no weights file {path}")
    # h5py knows local paths only; a file in a bucket is read whole.
    source = io.BytesIO(tf.io.gfile.GFile(path, "rb").read()) if "://" in path else path
    try:
        with h5py.File(source, "r") as file:
            root = file["model_weights"] if "model_weights" in file else file
            names = _names(root, "layer_names") if isinstance(root, h5py.Group) else []
            if not names or any(not isinstance(root.get(name), h5py.Group) for name in names):
                raise UserError(f"weights file {path} lists no Keras layers; Keras 2's model.save_weights('x.h5') does")
            yield root
    except OSError as error:
        raise UserError(f"weights file {path} is not a whole HDF5 file ({error})") from error


def _layers(root: h5py.Group) -> LayerWeights:
    names = _names(root, "layer_names")
    layers: LayerWeights = {}
    # A classifier of ours holds the network as one nested layer, whose weights are named layer/weight.
    whole = "base" in names and "head" in names
    for name in ["base", "head"] if whole else names:
        for weight in _names(root[name], "weight_names"):
            owner = weight.split("/")[0] if whole and name == "base" else name
            layers.setdefault(owner, []).append(_array(root[name][weight], root))
    return layers


def _array(found: h5py.Dataset, root: h5py.Group) -> np.ndarray:
    """The numbers of a weight. Raises ValueError for anything else, and for what stands in another file: nothing is read but
    the one that was named."""
    if not isinstance(found, h5py.Dataset) or found.dtype.kind not in "fiub":
        raise ValueError(f"{found.name} is no array of numbers")
    if found.external or found.is_virtual or found.file.filename != root.file.filename:
        raise ValueError(f"{found.name} stands in another file")
    return np.asarray(found)


def _names(group: h5py.Group, key: str) -> list[str]:
    """A list of names from the attributes; Keras cuts a list above 64 KB into key0, key1, …"""
    chunks = [group.attrs[key]] if key in group.attrs else []
    while f"{key}{len(chunks)}" in group.attrs:
        chunks.append(group.attrs[f"{key}{len(chunks)}"])
    # A number or a single text is no list; its error is told with the file.
    return [n.decode() if isinstance(n, bytes) else str(n) for chunk in chunks for n in np.atleast_1d(chunk)]
