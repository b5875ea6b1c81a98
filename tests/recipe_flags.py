"""The flagfiles under configs/, read as their commands read them."""

import functools
import json
import subprocess
import sys

from absl import flags

from conftest import ROOT
from dataset_tools import competitions
from pipeline.experiment import settings
from pipeline.runs import stages

CONFIGS = ROOT / "configs"
OVERRIDES = CONFIGS / "overrides"
GPU = OVERRIDES / "gpu.flags"
TPU = sorted((OVERRIDES / "tpu").glob("*.flags"))
GEO_PRIOR = sorted((CONFIGS / "geo_prior").glob("*.flags"))  # of train_geo_prior.py
RUN_FLAGS = sorted(CONFIGS.rglob("run.flags"))             # of run.py
RECIPES = sorted(path.relative_to(CONFIGS).as_posix() for path in CONFIGS.rglob("*.flags")
                 if OVERRIDES not in path.parents and path not in (*GEO_PRIOR, *RUN_FLAGS))

# A fresh process, since absl's flags are global; without TensorFlow, which multi_stage_train.py imports late.
READ = """
import dataclasses, json, sys
import multi_stage_train as command
rest = command.FLAGS(sys.argv)
assert rest[1:] == [], rest
names = ("model", "weights", "num_classes", "precision", "random_seed", "tta", "fold", "tpu", "train_split", "dropout",
         "boxes", "place_input", "input_scaling", "channel_dropout", "head_init", "pixel_mean", "pixel_std")
print(json.dumps({**{name: command.FLAGS[name].value for name in names},
                  "stages": [dataclasses.asdict(stage) for stage in command.resolve_stages()]}))
assert "tensorflow" not in sys.modules
"""

READ_GEO_PRIOR = """
import json, sys
import train_geo_prior as command
rest = command.FLAGS(sys.argv)
assert rest[1:] == [], rest
print(json.dumps({name: command.FLAGS[name].value for name in command.RUN_FLAGS}))
assert "tensorflow" not in sys.modules
"""


def python(code, *arguments):
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


@functools.cache
def read(*flagfiles):
    """The flags of a recipe, its stages as Stage; not to be written to."""
    recipe = json.loads(python(READ, *(f"--flagfile={path}" for path in flagfiles)))
    return {**recipe, "stages": tuple(stages.Stage(**stage) for stage in recipe["stages"])}


def settings_of(path):
    """What run.py makes of a run.flags: as a competition's own, or as what lies beside its first recipe."""
    given = flags.FlagValues()
    settings.define(given)
    beside = next(iter(sorted(set(path.parent.glob("*.flags")) - {path})), None)
    environment = {} if path.parent.name in competitions.COMPETITIONS else {"RECIPES": str(beside)}
    return settings.read(path.parent.name, "DATA", "RUN", given(["run.py"]) and given, environment, str)
