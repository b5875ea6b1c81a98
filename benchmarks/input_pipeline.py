"""How fast each step from shards to training batches is: python -m benchmarks.input_pipeline --data_dir=RECORDS

Of the pictures of --data_dir (as create_tfrecords.py made them) and of large ones, 12 megapixels each, which are made of those
by enlarging them (with --large_noise grainy, as a sensor's are, which makes more bits). A row is a whole input pipeline that ends at that step: reading, parsing, decoding, cropping and
so on; RandAugment's operations stand alone, on decoded pictures in memory. All rows take turns, several times over, so that
what else the machine does meets all. The table tells medians: pictures a second, pictures for each second that a core worked
(which other programs disturb less), and that relative to decoding alone. --out has them as JSON, `rates` those that are
looked at first.
"""

import dataclasses
import functools
import io
import os
import statistics
import sys
import time
from typing import Any, Callable, Iterator

from absl import flags

from pipeline import command
from pipeline.errors import UserError
from pipeline.flag_types import define_float, define_path

FLAGS = flags.FLAGS
define_path("data_dir", "Folder of shards, as create_tfrecords.py makes it.")
flags.DEFINE_string("split", "train", "The split whose pictures are read.")
flags.DEFINE_integer("size", 300, "Side of a training picture in pixels.", 8)
flags.DEFINE_string("randaugment", "6:4", "N:M of the rows with RandAugment.")
flags.DEFINE_integer("batch_size", 32, "Pictures a batch.", 1)
flags.DEFINE_integer("pictures", 512, "Pictures a measurement (of the large ones an eighth).", 8)
flags.DEFINE_integer("repeats", 5, "Measurements of each row, in turn.", 1)
flags.DEFINE_integer("large_pixels", 12_000_000, "Pixels of a large picture; 0: leave those rows out.", 0)
define_float("large_noise", 0.0, "Standard deviation of a large picture's grain, in levels of 255.")
flags.DEFINE_integer("threads", 0, "Threads of the pipeline; 0: the machine's cores.", 0)
define_path("out", "Where the figures go as JSON.")

DECODE, CROP, TRAIN, RANDAUGMENT, LARGE = "decode", "crop, resize", "train", "train, RandAugment", "large: "
DEVICE = f"{RANDAUGMENT} on the device"  # the host's part
RATES = {"decode": DECODE, "crop_resize": CROP, "train": TRAIN, "train_randaugment": RANDAUGMENT, "train_device": DEVICE}
PROGRESSIVE, WHOLE = "large, progressive: ", "decode, then crop, resize, exact"
# What is wanted at least.
RATIOS = ((TRAIN, DECODE, 0.55), (RANDAUGMENT, TRAIN, 0.5), (DEVICE, TRAIN, 0.95), (LARGE + CROP, LARGE + DECODE, 2.5),
          (LARGE + CROP, LARGE + WHOLE, 2.5))
LARGE_SHARE = 8   # a large picture costs about as much as thirty
LARGE_FILES = 8
LARGE_QUALITY = 92  # and chroma of half the resolution, as telephones write them


@dataclasses.dataclass(frozen=True)
class Row:
    """A pipeline to be measured."""

    name: str
    batches: Any      # tf.data.Dataset, endless
    per_element: int  # pictures
    pictures: int     # a measurement


@dataclasses.dataclass(frozen=True)
class Rate:
    """Medians."""

    images: float       # a second
    core_images: float  # a second that a core worked


def main() -> None:
    if not FLAGS.data_dir:
        raise UserError("--data_dir: name a folder of shards, as create_tfrecords.py makes it")
    from pipeline import files  # TensorFlow comes after the flags
    from pipeline.ops import randaugment
    from pipeline.records import dataset

    randaugment.parse(FLAGS.randaugment)
    part = dataset.load(FLAGS.data_dir).part(FLAGS.split)
    rows = [*_pipelines(part), *_operations(part)]
    if FLAGS.large_pixels:
        for kind, progressive in ((LARGE, False), (PROGRESSIVE, True)):
            rows += _large_pipelines(kind, _large_pictures(part, progressive))
    rates = measure(rows)
    _print(rates)
    if FLAGS.out:
        files.write_json(FLAGS.out, _summary(rates))


# The rows ------------------------------------------------------------------------------------------------------------

def _pipelines(part: Any) -> Iterator[Row]:
    """From the shards on; each has all that is before it."""
    import tensorflow as tf
    from pipeline.ops import mixing, seeds
    from pipeline.records import input as inputs

    def row(name: str, elements: Any, per_element: int = 1) -> Row:
        return Row(name, elements, per_element, FLAGS.pictures)

    yield row("read", tf.data.TFRecordDataset(part.paths).repeat())
    examples = inputs.examples(part).repeat().enumerate()
    yield row("read, parse", examples)

    def mapped(function: Callable) -> Any:
        return examples.map(lambda row, example: function(example["encoded"], seeds.example_seed(0, 0, row)),
                            num_parallel_calls=_threads())

    yield row(DECODE, mapped(_decoded))
    yield row("crop inside the decode", mapped(_part_alone))
    for name, fast in ((CROP, True), (f"{CROP}, exact", False)):
        yield row(name, mapped(functools.partial(_cropped, fast)))
    for name, changes in {
            TRAIN: {}, f"{TRAIN}, exact resize": {"resize_engine": "reference"},
            f"{TRAIN}, mixup": {"mix": mixing.Alphas(mixup=0.2)}, f"{TRAIN}, CutMix": {"mix": mixing.Alphas(cutmix=1.0)},
            RANDAUGMENT: {"randaugment": FLAGS.randaugment},
            DEVICE: {"randaugment": FLAGS.randaugment, "augment_on": "device"},
            f"{RANDAUGMENT}, reference": {"randaugment": FLAGS.randaugment, "randaugment_engine": "reference"}}.items():
        yield row(name, _batches(part, **changes), FLAGS.batch_size)


def _decoded(encoded: Any, seed: Any) -> Any:
    from pipeline.ops import decode

    return decode.decode(encoded)


def _cropped(fast: bool, encoded: Any, seed: Any) -> Any:
    from pipeline.ops import decode

    return decode.random_crop(encoded, FLAGS.size, seed, fast=fast)


def _whole_cropped(encoded: Any, seed: Any) -> Any:
    """The same training picture by decoding all of it first."""
    import tensorflow as tf
    from pipeline.ops import decode

    image = decode.decode(encoded)
    top, left, height, width = tf.unstack(decode.sample_box(tf.shape(image)[0], tf.shape(image)[1], seed))
    return decode.resize(image[top:top + height, left:left + width], FLAGS.size)


def _part_alone(encoded: Any, seed: Any) -> Any:
    """The part of a random crop, decoded, not resized."""
    import tensorflow as tf
    from pipeline.ops import decode

    inside = decode.window(encoded)
    return tf.image.decode_and_crop_jpeg(encoded, decode.sample_box(inside[2], inside[3], seed), channels=3,
                                         dct_method="INTEGER_ACCURATE")


def _batches(part: Any, mix: Any = None, **pictures: Any) -> Any:
    """What training reads, in the order that it has."""
    from pipeline.ops import mixing
    from pipeline.records import input as inputs

    made = inputs.TrainPictures(FLAGS.size, "inception", **{"randaugment": "", "eval_resize": "squash", **pictures})
    return inputs.train_batches(part, made, FLAGS.batch_size, seed=0, mix=mix or mixing.Alphas())


def _operations(part: Any) -> Iterator[Row]:
    """Each operation of RandAugment by itself, of both engines, on pictures that lie in memory."""
    import tensorflow as tf
    from pipeline.ops import decode, randaugment, randaugment_fast, seeds
    from pipeline.records import input as inputs

    size, magnitude = FLAGS.size, randaugment.parse(FLAGS.randaugment).magnitude
    pictures = tf.stack([decode.whole(example["encoded"], size, "squash") for example in inputs.examples(part).take(32)])
    chain = randaugment_fast.chain(size, size, 1, magnitude)

    def fast(index: int, image: Any, seed: Any) -> Any:
        drawn = randaugment_fast.draw(seed, 1, size, size)
        return chain(image, *drawn._replace(indices=tf.constant([index])))

    def reference(index: int, image: Any, seed: Any) -> Any:
        operation = randaugment.OPERATIONS[randaugment_fast.NAMES[index]]
        return operation.apply(image, operation.level(magnitude / 10, size), seed)

    def row(name: str, function: Callable) -> Row:
        made = tf.data.Dataset.range(len(pictures)).repeat().map(
            lambda number: function(pictures[number], seeds.example_seed(0, 0, number)), num_parallel_calls=_threads())
        return Row(name, made, 1, FLAGS.pictures)

    yield row("picture in memory", lambda image, seed: image)
    for index, name in enumerate(randaugment_fast.NAMES):
        for engine, function in (("fast", fast), ("reference", reference)):
            yield row(f"{name}, {engine}", functools.partial(function, index))


def _large_pipelines(kind: str, encoded: list[bytes]) -> Iterator[Row]:
    """Of photographs far larger than what is made of them."""
    import tensorflow as tf
    from pipeline.ops import seeds

    pictures = tf.data.Dataset.from_tensor_slices(encoded).repeat().enumerate()

    def row(name: str, function: Callable) -> Row:
        made = pictures.map(lambda number, one: function(one, seeds.example_seed(0, 0, number)),
                            num_parallel_calls=_threads())
        return Row(f"{kind}{name}", made, 1, max(FLAGS.pictures // LARGE_SHARE, 1))

    megabytes = sum(map(len, encoded)) / len(encoded) / 1e6
    print(f"{kind}{megabytes:.2f} MB a picture", file=sys.stderr)
    yield row(DECODE, _decoded)
    for name, fast in ((CROP, True), (f"{CROP}, exact", False)):
        yield row(name, functools.partial(_cropped, fast))
    yield row(WHOLE, _whole_cropped)


def _large_pictures(part: Any, progressive: bool) -> list[bytes]:
    """JPEGs of the wanted number of pixels, which are pictures of the shards enlarged."""
    import numpy as np
    from PIL import Image
    from pipeline.records import input as inputs

    rng, large = np.random.default_rng(0), []
    for example in inputs.examples(part).take(LARGE_FILES):
        small = Image.open(io.BytesIO(example["encoded"].numpy())).convert("RGB")
        factor = (FLAGS.large_pixels / (small.width * small.height)) ** 0.5
        sides = round(small.width * factor), round(small.height * factor)
        pixels = np.asarray(small.resize(sides, Image.Resampling.BICUBIC), np.float32)
        grain = rng.normal(0, FLAGS.large_noise, (*pixels.shape[:2], 1))
        written = io.BytesIO()
        Image.fromarray(np.uint8(np.clip(pixels + grain, 0, 255))).save(written, "JPEG", quality=LARGE_QUALITY,
                                                                        progressive=progressive)
        large.append(written.getvalue())
    return large


# Measuring -----------------------------------------------------------------------------------------------------------

def measure(rows: list[Row]) -> dict[str, Rate]:
    """By the rows' names."""
    batches = {row.name: row.batches.with_options(_options()) for row in rows}
    for elements in batches.values():
        next(iter(elements))  # compiles
    samples: dict[str, list[tuple[float, float]]] = {row.name: [] for row in rows}
    for _ in range(FLAGS.repeats):
        for row in rows:
            samples[row.name].append(_sample(batches[row.name], row))
    return {name: Rate(statistics.median(one for one, _ in found), statistics.median(one for _, one in found))
            for name, found in samples.items()}


def _sample(elements: Any, row: Row) -> tuple[float, float]:
    """(pictures a second, pictures a second of a core), by an iterator of its own: one that waits would work ahead."""
    iterator = iter(elements)
    next(iterator)  # fills the buffer that the shuffling needs
    count = -(-row.pictures // row.per_element)
    started, worked = time.perf_counter(), time.process_time()
    for _ in range(count):
        next(iterator)
    return (count * row.per_element / (time.perf_counter() - started),
            count * row.per_element / (time.process_time() - worked))


def _threads() -> int:
    return FLAGS.threads or len(os.sched_getaffinity(0))


def _options() -> Any:
    import tensorflow as tf

    options = tf.data.Options()
    options.threading.private_threadpool_size = _threads()
    options.autotune.enabled = False  # all rows on the same threads, none working ahead
    return options


# Telling -------------------------------------------------------------------------------------------------------------

def _print(rates: dict[str, Rate]) -> None:
    print(f"| {FLAGS.size} px, batches of {FLAGS.batch_size}, {_threads()} threads, median of {FLAGS.repeats} "
          "| pictures/s | pictures/s of a core | × decode |")
    print("|---|---|---|---|")
    for name, rate in rates.items():
        decoded = rates[next((kind for kind in (LARGE, PROGRESSIVE) if name.startswith(kind)), "") + DECODE]
        print(f"| {name} | {rate.images:.0f} | {rate.core_images:.0f} | {rate.core_images / decoded.core_images:.2f} |")
    print()
    for one, other, wanted in RATIOS:
        if one in rates:
            print(f"{one} / {other}: {_ratio(rates, one, other, 'core_images'):.2f} of a core's, "
                  f"{_ratio(rates, one, other, 'images'):.2f} by the clock (at least {wanted} is wanted)")


def _ratio(rates: dict[str, Rate], one: str, other: str, kind: str) -> float:
    return getattr(rates[one], kind) / getattr(rates[other], kind)


def _summary(rates: dict[str, Rate]) -> dict[str, Any]:
    """`rates` and `core_rates`: those that are looked at first; `rows`: all."""
    return {"size": FLAGS.size, "batch_size": FLAGS.batch_size, "randaugment": FLAGS.randaugment, "threads": _threads(),
            "repeats": FLAGS.repeats, "large_noise": FLAGS.large_noise,
            "rates": {key: rates[name].images for key, name in RATES.items()},
            "core_rates": {key: rates[name].core_images for key, name in RATES.items()},
            "rows": {name: dataclasses.asdict(rate) for name, rate in rates.items()}}


if __name__ == "__main__":
    command.run(main)
