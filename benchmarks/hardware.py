"""What the machine at hand does, to paste into a report of a bug: python -m benchmarks.hardware

Tells devices and versions, then a table: training's step with XLA and without, in float32, bfloat16 and float16, with the
pictures augmented on the host or on the device; for each row
- pictures a second of the step alone, and of training with its input (benchmarks.train_step says how);
- the most memory: of the GPU or TPU, else of the process;
- how far the first step's change of the weights, as a vector, is from the CPU's in float32 without XLA, with the same weights
  and pictures to begin with: |change − CPU's| / |CPU's|.
Everything is measured, each row by a process of its own, on drawn pictures. What can't be had here is told below the table.
"""

import importlib.metadata
import io
import itertools
import json
import os
import platform
import subprocess
import sys
import tempfile
from typing import Any, NamedTuple, Optional

from absl import flags
import numpy as np

from pipeline import command, files
from pipeline.flag_types import define_path

FLAGS = flags.FLAGS
PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
ON_OFF, PLACES = ("off", "on"), ("host", "device")
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CLASSES, SIDES = 4, (320, 240)  # of the drawn pictures
NO_FIGURE = "–"

flags.DEFINE_string("model", "kecam/EfficientNetV1Lite0", "The network.")
flags.DEFINE_integer("size", 160, "Side of a picture in pixels.", 8)
flags.DEFINE_integer("batch_size", 32, "Pictures a step.", 1)
flags.DEFINE_integer("steps", 5, "Steps a measurement.", 1)
flags.DEFINE_integer("repeats", 3, "Measurements of each row.", 1)
flags.DEFINE_multi_enum("precision", list(PRECISIONS), PRECISIONS, "Of the rows.")
flags.DEFINE_multi_enum("jit", list(ON_OFF), ON_OFF, "Of the rows: whether XLA compiles the step.")
flags.DEFINE_multi_enum("augment_on", list(PLACES), PLACES, "Of the rows: where RandAugment is done.")
flags.DEFINE_string("tpu", "none", "A TPU, as multi_stage_train.py takes it, beside what else there is.")
define_path("out", "Where the figures go as JSON.")


class Row(NamedTuple):
    """What a row is of."""

    device: str      # CPU, GPU or TPU
    augment_on: str
    jit: str
    precision: str

    @property
    def is_reference(self) -> bool:
        return (self.device, self.jit, self.precision) == ("CPU", ON_OFF[0], PRECISIONS[0])


def rows_of(accelerators: list[str]) -> list[Row]:
    """The reference of each place first; the CPU's other rows where it is all there is."""
    asked = [Row(device, *how) for device in accelerators or ["CPU"]
             for how in itertools.product(FLAGS.augment_on, FLAGS.jit, FLAGS.precision)]
    references = [Row("CPU", place, ON_OFF[0], PRECISIONS[0]) for place in FLAGS.augment_on]
    return list(dict.fromkeys([*references, *asked]))


def draw_records(folder: str) -> str:
    """Shards of two batches of pictures, made as create_tfrecords.py makes them; returns their folder."""
    from PIL import Image
    from dataset_tools import build

    raw, random = os.path.join(folder, "raw"), np.random.default_rng(0)
    for number in range(2 * FLAGS.batch_size):
        coarse = Image.fromarray(random.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        drawn = io.BytesIO()
        coarse.resize(SIDES, Image.Resampling.BICUBIC).save(drawn, "JPEG", quality=90)
        path = os.path.join(raw, str(number % CLASSES), f"{number}.jpg")
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(drawn.getvalue())
    build.build("folder", raw, os.path.join(folder, "records"))
    return os.path.join(folder, "records")


def measure(row: Row, records: str, folder: str) -> dict[str, Any]:
    """What benchmarks.hardware_row tells; of a row that can't be had here {"why": its last line}."""
    out, first_step = os.path.join(folder, "row.json"), os.path.join(folder, f"{'_'.join(row)}.npy")
    done = subprocess.run([
        sys.executable, "-m", "benchmarks.hardware_row", f"--data_dir={records}", f"--model={FLAGS.model}",
        f"--stage=name=all,epochs=1,size={FLAGS.size},lr=0.001,train=all", f"--batch_size={FLAGS.batch_size}",
        "--randaugment=2:5", f"--augment_on={row.augment_on}", f"--jit={row.jit}", f"--precision={row.precision}",
        f"--steps={FLAGS.steps}", f"--repeats={FLAGS.repeats}", f"--out={out}", f"--first_step={first_step}",
        f"--cpu_alone={'on' if row.device == 'CPU' else 'off'}",
        # Else each of its cores would have statistics of its own.
        *([f"--tpu={FLAGS.tpu}", "--sync_batch_norm"] if row.device == "TPU" else [])],
        cwd=ROOT, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}, without a word"]
        return {"why": lines[-1]}
    with open(out, encoding="utf-8") as file:
        return {**json.load(file), "off_by": distance(row, first_step, folder)}


def distance(row: Row, first_step: str, folder: str) -> Optional[float]:
    """Of the first step's change from the CPU's, relative to that; None where there is no such one."""
    path = os.path.join(folder, f"{'_'.join(Row('CPU', row.augment_on, ON_OFF[0], PRECISIONS[0]))}.npy")
    if not os.path.exists(path):
        return None
    expected = np.load(path).astype(np.float64)
    return float(np.linalg.norm(np.load(first_step) - expected) / np.linalg.norm(expected))


def machine() -> tuple[dict[str, str], list[str], list[str]]:
    """(what it is by name, its accelerators, what can't be had), as TensorFlow sees it."""
    import tensorflow as tf

    built = tf.sysconfig.get_build_info()
    told = {"system": platform.platform(), "CPU": f"{_processor()}, {os.cpu_count()} threads", "memory": _memory(),
            "Python": platform.python_version(), "TensorFlow": tf.__version__,
            "Keras": _keras(tf.keras.Model.__module__.split(".")[0])}
    if built.get("is_cuda_build"):
        told["built for"] = f"CUDA {built.get('cuda_version')}, cuDNN {built.get('cudnn_version')}"
    gpus, missing = tf.config.list_physical_devices("GPU"), []
    for number, gpu in enumerate(gpus):
        details = tf.config.experimental.get_device_details(gpu)
        capability = ".".join(map(str, details.get("compute_capability", ("unknown",))))
        told[f"GPU {number}"] = f"{details.get('device_name', 'unknown')}, compute capability {capability}"
    if not gpus:
        missing.append(f"GPU: TensorFlow sees none ({'' if built.get('is_cuda_build') else 'not '}built with CUDA)")
    if len(gpus) > 1:
        missing.append(f"GPUs side by side: of the {len(gpus)} the first is measured")
    if FLAGS.tpu == "none":
        missing.append("TPU: none was named (--tpu)")
    return told, (["GPU"] if gpus else []) + (["TPU"] if FLAGS.tpu != "none" else []), missing


def _keras(package: str) -> str:
    return f"{package} {importlib.metadata.version(package)}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory() -> str:
    return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"


def cells(row: Row, told: dict[str, Any]) -> list[str]:
    """Of the table: the row's names, then its figures."""
    if "why" in told:
        return [*row, *[NO_FIGURE] * 4]
    peak, off_by = told["peak_bytes"], told["off_by"]
    if row.is_reference:
        off = "it is the CPU's"
    elif told["skipped"]:
        off = "skipped: no finite gradient at the first loss scale"
    else:
        off = NO_FIGURE if off_by is None else f"{off_by:.1e}"
    return [*row, f"{told['rates']['bare']:.1f}", f"{told['rates']['training']:.1f}",
            NO_FIGURE if peak is None else f"{peak / 2**20:.0f} ({told['memory_of']})", off]


def main() -> None:
    told, accelerators, missing = machine()
    for name, value in told.items():
        print(f"{name}: {value}")
    print(f"{FLAGS.model} at {FLAGS.size} px, batches of {FLAGS.batch_size}; medians of {FLAGS.repeats} × {FLAGS.steps} "
          "steps\n")
    print("| device | augmentation | XLA | precision | step, pictures/s | training with input, pictures/s | memory, MiB | "
          "first step off by |")
    print("|---" * 8 + "|", flush=True)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        records = draw_records(folder)
        for row in rows_of(accelerators):
            one = measure(row, records, folder)
            print(f"| {' | '.join(cells(row, one))} |", flush=True)
            found.append({**row._asdict(), **one})
    missing += [f"{', '.join(row)}: {one['why']}" for row, one in zip(rows_of(accelerators), found) if "why" in one]
    print("\nNot to be had here:", *(missing or ["nothing of it"]), sep="\n- ")
    if FLAGS.out:
        files.write_json(FLAGS.out, {"machine": told, "rows": found, "missing": missing})


if __name__ == "__main__":
    command.run(main)
