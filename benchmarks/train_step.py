"""How much of the bare compiled step's rate training reaches: python -m benchmarks.train_step --data_dir=RECORDS

Training is what multi_stage_train.py runs, with its pictures read, decoded and augmented, its progress and its history: all its
flags hold, a recipe's too (--flagfile); the last stage is measured, without validation and checkpoints. The bare step is that
stage's own, compiled alike, on one batch that stays. Both do --steps in turn, several times, so that what else the machine
does meets both; before each the input pipeline fills its buffers and rests, so that the bare step has the machine for itself
and training makes as many batches as it takes. The ratio is the median over the pairs. Where pictures are made on the cores
that the step computes on, no more can be had than the step's share of the work: that is the ratio of the cores' seconds.
"""

import dataclasses
import statistics
import tempfile
import time
from typing import Any, Callable, Sequence
from unittest import mock

from absl import flags

import multi_stage_train
from pipeline import command
from pipeline.flag_types import define_path, require

FLAGS = flags.FLAGS
flags.DEFINE_integer("steps", 20, "Steps a measurement.", 1)
flags.DEFINE_integer("repeats", 5, "Measurements of each kind, in turn.", 1)
define_path("out", "Where the figures go as JSON.")
FLAGS.set_default("model", "kecam/EfficientNetV1Lite0")
FLAGS.set_default("stage", ["name=all,epochs=1,size=160,lr=0.001,train=all"])

LEAST_RATIO = 0.95
REST = 0.2          # seconds between two looks at whether the input pipeline still works
LEAST_WORK = 0.02   # of a core: below this it rests


@dataclasses.dataclass(frozen=True)
class Sample:
    """Of some steps."""

    seconds: float
    core_seconds: float  # for which cores worked


def measured(function: Callable[[], None]) -> Sample:
    started, worked = time.perf_counter(), time.process_time()
    function()
    return Sample(time.perf_counter() - started, time.process_time() - worked)


def wait_for_rest() -> None:
    """Returns when no thread of the process does anything."""
    while measured(lambda: time.sleep(REST)).core_seconds > LEAST_WORK * REST:
        pass


def make_meter(batch: Any, steps: int, samples: list[tuple[Sample, Sample]]) -> Any:
    """A Keras callback that adds (training's, the bare step's) of each epoch to the samples.

    Args:
        batch: what the bare step is given, (features, labels).
        steps: of the bare step, as many as an epoch has.
    """
    import tensorflow as tf

    class Meter(tf.keras.callbacks.Callback):

        def on_train_begin(self, logs=None):
            self._step = tf.function(self.model.train_step, jit_compile=FLAGS.jit or None)
            self._bare_steps(1)  # compiles

        def on_epoch_begin(self, epoch, logs=None):
            wait_for_rest()
            self._started, self._worked = time.perf_counter(), time.process_time()

        def on_train_batch_end(self, number, logs=None):
            self._training = Sample(time.perf_counter() - self._started, time.process_time() - self._worked)

        def on_epoch_end(self, epoch, logs=None):
            wait_for_rest()
            bare = measured(lambda: self._bare_steps(steps))
            if epoch:  # the first one compiles
                samples.append((self._training, bare))

        def _bare_steps(self, count):
            """They change nothing that training goes on from."""
            variables = [*self.model.variables, *self.model.optimizer.variables]
            before = [variable.numpy() for variable in variables]
            for _ in range(count):
                told = self._step(batch)
            tf.nest.map_structure(lambda one: one.numpy(), told)
            for variable, value in zip(variables, before):
                variable.assign(value)

    return Meter()


def measure(model_dir: str, watchers: Sequence[Any] = ()) -> tuple[int, list[tuple[Sample, Sample]]]:
    """(pictures a measurement, the pairs). `watchers`: Keras callbacks that are told of the steps too."""
    from pipeline.ops import mixing
    from pipeline.records import dataset, input as inputs, training_picture
    from pipeline.runs import run as runs
    from pipeline.training import train
    from pipeline.training.step import TrainableClassifier

    FLAGS.model_dir = model_dir
    stage = multi_stage_train.resolve_stages()[-1]
    run = multi_stage_train.make_run([stage], None)
    train.make_devices(run)
    part = runs.training_part(run, dataset.load(run.data_dir))
    epochs_each = FLAGS.steps / max(part.size // stage.batch_size, 1)
    stage = dataclasses.replace(stage, epochs=epochs_each * (FLAGS.repeats + 1), validate_every=epochs_each, warmup_epochs=0.0,
                                keep_epochs="", early_stop=0)
    batch = next(iter(inputs.train_batches(part, training_picture.pictures_of(stage), stage.batch_size, seed=0,
                                           mix=mixing.Alphas(stage.mixup, stage.cutmix, stage.mixup_draw))))
    samples: list[tuple[Sample, Sample]] = []
    meter, fit = make_meter(batch, FLAGS.steps, samples), TrainableClassifier.fit

    def metered(model: Any, *arguments: Any, callbacks: Any, **options: Any) -> Any:
        return fit(model, *arguments, callbacks=[*callbacks, meter, *watchers], **options)

    with mock.patch.object(TrainableClassifier, "fit", metered):
        train.run_training(dataclasses.replace(run, stages=(stage,)))
    return FLAGS.steps * stage.batch_size, samples


def summary(pictures: int, samples: list[tuple[Sample, Sample]]) -> dict[str, Any]:
    """Medians: pictures a second, by the clock and of a core; ratios of pairs."""
    def rates(kind: str) -> dict[str, float]:
        training, bare = zip(*((getattr(one, kind), getattr(other, kind)) for one, other in samples))
        return {"training": pictures / statistics.median(training), "bare": pictures / statistics.median(bare),
                "ratio": statistics.median(two / one for one, two in zip(training, bare))}

    return {"model": FLAGS.model, "stage": FLAGS.stage[-1], "batch_size": FLAGS.batch_size, "steps": FLAGS.steps,
            "repeats": FLAGS.repeats, "rates": rates("seconds"), "core_rates": rates("core_seconds")}


def main() -> None:
    require("data_dir")
    from pipeline import files  # TensorFlow comes after the flags

    with tempfile.TemporaryDirectory() as model_dir:
        told = summary(*measure(model_dir))
    print(f"| {told['model']}, {told['stage']} | training with input, pictures/s | bare step | ratio |")
    print("|---|---|---|---|")
    for kind, name in (("rates", "by the clock"), ("core_rates", "of a core")):
        one = told[kind]
        print(f"| {name} | {one['training']:.1f} | {one['bare']:.1f} | {one['ratio']:.3f} |")
    print(f"The input takes {1 - told['core_rates']['ratio']:.3f} of the cores' work (median of {FLAGS.repeats} pairs of "
          f"{FLAGS.steps} steps; by the clock at least {LEAST_RATIO} is wanted)")
    if FLAGS.out:
        files.write_json(FLAGS.out, told)


if __name__ == "__main__":
    command.run(main)
