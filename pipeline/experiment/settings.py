"""What run.py was asked for: its flags, over the environment's variables, over run.flags, over the defaults.

configs/COMPETITION/run.flags says what the two scripts do by default. Recipes from elsewhere bring the run.flags that lies
beside them instead; the competition's own is not for them.
"""

import dataclasses
import os
from typing import Callable, Mapping, Optional, Sequence

from absl import flags

from pipeline import flag_files
from pipeline.errors import UserError, unknown
from pipeline.experiment import auto, flag_text

AUTO = "auto"          # --recipes: pick by the records; --geo_prior: the competition's, where there is one
NONE = "none"          # --geo_prior: without
RUN_FLAGS = "run.flags"
CONFIGS = auto.CONFIGS
DEFAULT_FOLDS = 5      # where a recipe trains by folds and nobody says how many there are to be
# Of a competition's run.flags, what is said of its files and its scores: it holds for recipes that are picked too. The rest
# belongs to the recipes that stand beside it.
_OF_ANY_RECIPE = ("geo_prior", "prior_flags", "submission_flags")
_PASSED_ON = {
    "record_flags": "create_tfrecords.py", "train_flags": "multi_stage_train.py, after each recipe's, which they win over; "
    "what they say of devices (--tpu, --virtual_replicas) holds for localize.py and predict.py too",
    "localize_flags": "localize.py, where a recipe trains on boxes", "predict_flags": "predict.py",
    "prior_flags": "evaluate.py, make_submission.py and export.py alike (--prior_correction=1, --geo_exponent=fit, --blend=2:1)",
    "submission_flags": "make_submission.py (and export.py) alone"}
NAMES = ("recipes", "members", "folds", "record_seed", "geo_prior", *_PASSED_ON)  # the environment's variables are these in capitals


def define(values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags that run.flags may have too."""
    flags.DEFINE_multi_string(
        "recipes", None, "Flagfiles of multi_stage_train.py, separated by spaces or repeated; one is one model. auto: "
        "picked by the records. Default: those that configs/COMPETITION/run.flags names, else auto.", flag_values=values)
    flags.DEFINE_string("members", None, "Names of the recipes (files' names without .flags), separated by spaces, that the scores "
                        "and the submission are of; the others are trained for what these need of them. Default: all.",
                        flag_values=values)
    flags.DEFINE_integer("folds", None, "Folds of the records, where a recipe trains by folds [5].", 2, flag_values=values)
    flags.DEFINE_integer("record_seed", None, "Seed of the records: of their shuffle and folds [create_tfrecords.py's].", 0,
                         flag_values=values)
    flags.DEFINE_string("geo_prior", None, "Flagfile of train_geo_prior.py; none: without. Default: "
                        "configs/geo_prior/COMPETITION.flags, where there is one.", flag_values=values)
    for name, of in _PASSED_ON.items():
        flags.DEFINE_string(name, None, f"Flags for {of}, separated by spaces.", flag_values=values)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """A model that is to be trained."""

    name: str                        # of its folder in models/
    path: str                        # of its flagfile
    flags: Mapping[str, list[str]]   # of the flagfile and --train_flags, by name

    def value(self, name: str) -> Optional[str]:
        """The value of a flag that counts; None where it is not given."""
        return flag_text.last(self.flags, name)

    @property
    def device_flags(self) -> list[str]:
        """What every command that runs its network must be told of the devices."""
        return [f"--{name}={self.value(name)}" for name in ("tpu", "virtual_replicas") if self.value(name)]


@dataclasses.dataclass(frozen=True)
class Settings:
    """An experiment: a competition's files, a folder for what is made of them, and how it is made.

    Attributes:
      competition, data_dir, run_dir: as run.py takes them.
      recipes: the models, in the order of their training; empty: they are picked when the records stand.
      answering: those of them that are predicted with, scored and submitted.
      members: their names, separated by spaces; empty: all.
      chosen: in words, where the recipes come from.
      geo_prior: flagfile of train_geo_prior.py; empty: without.
      passed_on: flags for each command, by _PASSED_ON's names.
      run_flags: path of the run.flags that counts; empty: none.
      by_auto: nobody named recipes, or auto was asked for.
      score_test: the labels of test are known, and are to be scored by one view and by all.
      raw_flags: what every command that reads the competition's files is told of them.
    """

    competition: str
    data_dir: str
    run_dir: str
    recipes: tuple[Recipe, ...]
    answering: tuple[Recipe, ...]
    chosen: str
    geo_prior: str
    folds: Optional[int]
    record_seed: Optional[int]
    passed_on: Mapping[str, list[str]]
    run_flags: str = ""
    by_auto: bool = False
    members: str = ""
    score_test: bool = False
    raw_flags: Sequence[str] = ()

    @property
    def records(self) -> str:
        return os.path.join(self.run_dir, "records")

    @property
    def geo_prior_dir(self) -> str:
        return os.path.join(self.run_dir, "geo_prior")

    def model_dir(self, name: str) -> str:
        return os.path.join(self.run_dir, "models", name)


def read(competition: str, data_dir: str, run_dir: str, given: flags.FlagValues, environment: Mapping[str, str],
         find: Callable[[str], str], score_test: bool = False, has_places: Callable[[], bool] = lambda: True,
         raw_flags: Sequence[str] = ()) -> Settings:
    """Puts the layers together.

    Args:
      given: the flags of the command, as `define` defines them.
      find: gives the path of a file that a person has named.
      has_places: whether the competition's files tell places; asked only where nobody says how the geo prior is trained.

    Raises UserError for a recipe or run.flags that can't be read, for two recipes of one name, and for auto beside another.
    """
    asked = {name: given[name].value for name in NAMES if given[name].present}
    named = [("recipes", asked.get("recipes")), ("RECIPES", _words(environment.get("RECIPES")))]
    elsewhere = next((_paths(paths, find) for _, paths in named if paths), None)
    own = os.path.join(CONFIGS, competition, RUN_FLAGS)
    run_flags = own if elsewhere in (None, [AUTO]) else _beside(elsewhere)
    layer = _read_layer(run_flags) if os.path.exists(run_flags) else {}
    if elsewhere == [AUTO]:
        layer = {name: value for name, value in layer.items() if name in _OF_ANY_RECIPE}
    values = {**layer, **_of_environment(environment), **asked}
    recipes, chosen = _choose(competition, elsewhere, _paths(layer.get("recipes"), find), run_flags)
    passed_on = {name: flag_text.split(values.get(name) or "", name) for name in _PASSED_ON}
    read_recipes = _read_recipes(recipes, passed_on["train_flags"])
    meant_for_these = elsewhere is None or values.get("members") != layer.get("members")
    answering = _answering(read_recipes, values.get("members"), meant_for_these) if read_recipes else ()
    return Settings(
        competition, data_dir, run_dir, read_recipes, answering, chosen,
        _geo_prior(values.get("geo_prior"), competition, find, has_places), values.get("folds"), values.get("record_seed"),
        passed_on, run_flags if layer else "", not recipes, values.get("members") or "", score_test, tuple(raw_flags))


def with_recipes(settings: Settings, picked: auto.Picked) -> Settings:
    """The same with what was picked for its records."""
    train_flags = [*picked.train_flags, *settings.passed_on["train_flags"]]
    recipes = _read_recipes(picked.recipes, train_flags)
    return dataclasses.replace(
        settings, recipes=recipes, answering=_answering(recipes, settings.members, True),
        chosen=f"{settings.chosen}: {picked.why}", passed_on={**settings.passed_on, "train_flags": train_flags})


def _words(text: Optional[str]) -> list[str]:
    return flag_text.split(text, "recipes") if text else []


def _paths(values: Optional[Sequence[str]], find: Callable[[str], str]) -> list[str]:
    return [one if one == AUTO else find(one) for value in values or () for one in _words(value)]


def _beside(recipes: Sequence[str]) -> str:
    """The run.flags of the first folder of recipes that has one; empty where none has."""
    beside = [os.path.join(os.path.dirname(one), RUN_FLAGS) for one in recipes]
    return next((one for one in beside if os.path.exists(one)), "")


def _read_layer(path: str) -> dict[str, object]:
    """The values that a run.flags gives. Raises UserError."""
    values = flags.FlagValues()
    define(values)
    try:
        rest = values(["run.py", *flag_files.read(values, [f"--flagfile={path}"])])
    except (flags.Error, UserError) as error:
        raise UserError(f"{path}: {error}") from None
    if rest[1:]:
        raise UserError(f"{path}: unexpected {rest[1]!r}; flags are written --name=value")
    return {name: values[name].value for name in NAMES if values[name].present}


def _of_environment(environment: Mapping[str, str]) -> dict[str, object]:
    """The flags that the environment's variables stand for; an empty one is none. Raises UserError."""
    values = flags.FlagValues()
    define(values)
    given = {name: environment[name.upper()] for name in NAMES if environment.get(name.upper())}
    for name, text in given.items():
        try:
            values[name].parse(text)
        except flags.Error as error:
            raise UserError(f"{name.upper()}={text}: {error}") from None
    return {name: values[name].value for name in given}


def _choose(competition: str, elsewhere: Optional[list[str]], own: list[str], run_flags: str) -> tuple[list[str], str]:
    """(paths of the recipes, in words why these); no paths: they are picked by the records."""
    named = elsewhere or own
    if AUTO in named and len(named) > 1:
        raise UserError(f"--recipes={' '.join(named)}: {AUTO} stands alone, or not at all")
    if named and named != [AUTO]:
        return named, "as asked for" if elsewhere else f"by {run_flags}"
    return [], "as asked for by auto" if named else f"as {os.path.join(CONFIGS, competition)}/ names none"


def _read_recipes(paths: Sequence[str], train_flags: Sequence[str]) -> tuple[Recipe, ...]:
    names = [auto.name_of(path) for path in paths]
    twice = next((name for position, name in enumerate(names) if name in names[:position]), None)
    if twice:
        raise UserError(f"--recipes: two are named {twice}, and would be one model; rename one")
    return tuple(Recipe(name, path, flag_text.resolve([f"--flagfile={path}", *train_flags]))
                 for name, path in zip(names, paths))


def _answering(recipes: tuple[Recipe, ...], members: Optional[str], meant_for_these: bool) -> tuple[Recipe, ...]:
    """The recipes that --members names.

    A run.flags may stand beside recipes that somebody has chosen otherwise: then those of its members that are among them
    count, or all, where none is. Raises UserError for a name that is none, where it is meant for these recipes.
    """
    names = flag_text.split(members or "", "members")
    known = [recipe.name for recipe in recipes]
    lost = next((name for name in names if name not in known), None)
    if lost and meant_for_these:
        raise unknown("--members: recipe", lost, known)
    return tuple(recipe for recipe in recipes if recipe.name in names) or recipes


def _geo_prior(value: Optional[str], competition: str, find: Callable[[str], str], has_places: Callable[[], bool]) -> str:
    default = os.path.join(CONFIGS, "geo_prior", f"{competition}.flags")
    if value in (None, "", AUTO):
        return default if os.path.exists(default) and has_places() else ""
    return "" if value == NONE else find(value)
