"""TFLite files of an export's networks: one view of a picture in, probabilities out, for devices without TensorFlow.

What they hold is the mean of the networks by the picture as evaluation sees it: neither further views nor priors.
"""

import os
from typing import Any, Iterator, Optional, Sequence

import numpy as np
import tensorflow as tf

from pipeline import files
from pipeline.export import graph
from pipeline.records import dataset as datasets, input as inputs

FLOAT_FILE, INT8_FILE = "model.tflite", "model_int8.tflite"
PICTURES = 100  # that agreement is told over, and as many that ranges of integers are taken from
_ONE_VIEW = "none"


def write(folder: str, members: Sequence[graph.Member], served: graph.Served, data: datasets.Dataset) -> dict[str, Any]:
    """Writes both files and prints how they agree with the export; returns that by file. What can't be converted is told in
    a line, and left out."""
    sizes = {loaded.network.preparation[:3] for member in members for loaded in member.networks}
    if len(sizes) > 1:
        print("TFLite: none, since the networks take pictures of different sizes or cuts")
        return {}
    preparation = next(iter(sizes))
    network = _one_view(members, preparation[0])
    encoded = list(_encoded(data, "val", "test", "train"))
    pixels, expected = _pixels(encoded, preparation), served.serve_pictures(tf.constant(encoded))
    told = {}
    of_train = _pixels(list(_encoded(data, "train", "val", "test")), preparation)
    for name, ranges_from in ((FLOAT_FILE, None), (INT8_FILE, of_train)):
        content = _convert(network, ranges_from, name)
        if content is not None:
            files.write_whole(os.path.join(folder, name), content)
            told[name] = _agreement(name, content, pixels, expected["probabilities"].numpy())
    return told


def _one_view(members: Sequence[graph.Member], size: int) -> tf.types.experimental.ConcreteFunction:
    """float32 [1, size, size, 3], levels 0 to 255 → float32 probabilities [1, classes]."""

    @tf.autograph.experimental.do_not_convert
    def answer(image: tf.Tensor) -> tf.Tensor:
        total = 0.0
        for member in members:
            for loaded in member.networks:
                probabilities = loaded.one_view(image)
                if member.columns is not None:
                    probabilities = tf.gather(probabilities, member.columns, axis=1)
                total += probabilities * (member.weight / len(member.networks))
        return total

    image = tf.TensorSpec([1, size, size, 3], tf.float32, "image")
    return tf.function(answer, input_signature=[image]).get_concrete_function()


def _encoded(data: datasets.Dataset, *splits: str) -> Iterator[bytes]:
    """PICTURES of the first of these splits that there is."""
    split = next(one for one in (*splits, *data.manifest.splits) if one in data.manifest.splits)
    for example in inputs.examples(data.part(split)).take(PICTURES):
        yield example["encoded"].numpy()


def _pixels(encoded: Sequence[bytes], preparation: tuple[int, str, bool]) -> np.ndarray:
    """float32 [n, 1, size, size, 3]."""
    return graph.pictures(tf.constant(encoded), *preparation, _ONE_VIEW).numpy().astype(np.float32)


def _convert(network: tf.types.experimental.ConcreteFunction, of_train: Optional[np.ndarray], name: str) -> Optional[bytes]:
    """With pictures of train in integers; None where it can't be done."""
    from tensorflow.lite.python.convert import ConverterError  # late: TensorFlow loads this part when it is asked for

    converter = tf.lite.TFLiteConverter.from_concrete_functions([network])
    if of_train is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([one] for one in of_train)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8, tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        return converter.convert()
    except (ConverterError, ValueError, RuntimeError) as error:
        print(f"TFLite: no {name}, since the conversion ends with: {' '.join(str(error).split())[:200]}")
        return None


def _agreement(name: str, content: bytes, pixels: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    """With the export's probabilities [n, classes] of pictures without a place."""
    interpreter = tf.lite.Interpreter(model_content=content)
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for one in pixels:
        interpreter.set_tensor(taken["index"], one)
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0].copy())
    same = int((np.argmax(found, axis=1) == expected.argmax(axis=1)).sum())
    difference = float(np.abs(np.array(found) - expected).mean())
    print(f"{name}: the same first answer as the export on {same} of {len(pixels)} pictures; probabilities differ by "
          f"{difference:.4f} on average")
    return {"same_first_answer": same, "pictures": len(pixels), "mean_difference": difference}
