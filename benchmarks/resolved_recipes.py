"""Flagfiles as their commands resolve them, with what the run.flags beside them says."""

import dataclasses
import json
import os
import subprocess
import sys
from typing import Any, Mapping, Sequence

from absl import flags
from absl.testing import flagsaver

import multi_stage_train
from pipeline.errors import UserError
from pipeline.experiment import settings
from pipeline.runs.stages import Stage
from pipeline.training import sixth_place_flags

FLAGS = flags.FLAGS
NOT_SHOWN = ("stage", "scale_lr", "lr_batch", "flagfile", "write")  # lr is told as what it comes to
_READ_GEO_PRIOR = """
import json, sys
import train_geo_prior as command
command.FLAGS(sys.argv)
print(json.dumps({name: [command.FLAGS[name].value, command.FLAGS[name].default] for name in command.RUN_FLAGS}))
"""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A flagfile, resolved: of each flag its values (of a stage's, one for each stage) and its default."""

    values: Mapping[str, Sequence[Any]]
    defaults: Mapping[str, Any]

    def said(self) -> list[str]:
        """Names of the flags that are not as they are by default."""
        return [name for name, values in self.values.items() if any(one != self.defaults.get(name) for one in values)]


def read_recipe(path: str, name: str = "multi_stage_train") -> Recipe:
    """A flagfile as its command (`name`) reads it, with what the run.flags beside it says."""
    return _read_training(path) if name == "multi_stage_train" else _read_geo_prior(path)


def _read_training(path: str) -> Recipe:
    saved = flagsaver.save_flag_values(FLAGS)
    try:
        FLAGS(["recipe", f"--flagfile={path}"])
        if sixth_place_flags.is_used():
            sixth_place_flags.translate_training()
        stages = multi_stage_train.resolve_stages()
        ours = [name for name in FLAGS if name not in NOT_SHOWN and "absl" not in FLAGS.find_module_defining_flag(name)]
        values = {name: [FLAGS[name].value] for name in ours}
        defaults = {name: FLAGS[name].default for name in ours}
    finally:
        flagsaver.restore_flag_values(saved, FLAGS)
    of_stages = [field.name for field in dataclasses.fields(Stage) if field.name not in (*NOT_SHOWN, "name", "lower_lrs")]
    values |= {name: [_of_stage(stage, name) for stage in stages] for name in of_stages}
    beside, unsaid = _read_run_flags(path)
    return Recipe({**values, **beside}, {**defaults, **unsaid})


def _of_stage(stage: Stage, name: str) -> Any:
    if name != "lr":
        return getattr(stage, name)
    factor = stage.peak_lr / stage.lr
    return ":".join(f"{factor * one:g}" for one in (*stage.lower_lrs, stage.lr))


def run_name(name: str) -> str:
    """What a flag of run.flags is called beside those of the recipe."""
    return f"{name} (run.flags)"


def _read_run_flags(path: str) -> tuple[dict[str, list[Any]], dict[str, Any]]:
    """(what the run.flags beside a recipe says, nothing for what it may say), by `run_name`."""
    values = flags.FlagValues()
    settings.define(values)
    beside = os.path.join(os.path.dirname(path), settings.RUN_FLAGS)
    values(["run.py", *([f"--flagfile={beside}"] if os.path.exists(beside) else [])])
    names = [name for name in settings.NAMES if name != "recipes"]
    found = {run_name(name): [values[name].value] for name in names}
    if found[run_name("geo_prior")] == [None]:
        competition = os.path.relpath(path, settings.CONFIGS).split(os.sep)[0]
        of_competition = os.path.join(settings.CONFIGS, "geo_prior", f"{competition}.flags")
        found[run_name("geo_prior")] = [of_competition if os.path.exists(of_competition) else settings.NONE]
    return found, {**dict.fromkeys(found), run_name("geo_prior"): settings.NONE}


def _read_geo_prior(path: str) -> Recipe:
    done = subprocess.run([sys.executable, "-c", _READ_GEO_PRIOR, f"--flagfile={path}"], check=False, capture_output=True,
                          text=True)
    if done.returncode:
        raise UserError(f"{path}: {done.stderr.strip().splitlines()[-1]}")
    read = json.loads(done.stdout)
    ours = {name: one for name, one in read.items() if name not in ("model_dir", "data_dir", "competition")}
    return Recipe({name: [value] for name, (value, _) in ours.items()},
                  {name: default for name, (_, default) in ours.items()})
