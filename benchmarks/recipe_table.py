"""The recipes beside what their solutions' authors ran: python -m benchmarks.recipe_table [--write]

A table a solution: setting, published (configs/published.json), recipe, ours; each flag as the recipe's command resolves it.
--write puts them into docs/recipes.md, between its marks.
"""

import dataclasses
import itertools
import os
import re
from typing import Any, Iterable, Mapping, Optional, Sequence

from absl import flags

from benchmarks.resolved_recipes import NOT_SHOWN, Recipe, read_recipe, run_name
from pipeline import command, files
from pipeline.experiment import settings
from pipeline.runs.stages import STAGE_FLAGS
from pipeline.tasks import registry as tasks

FLAGS = flags.FLAGS
flags.DEFINE_boolean("write", False, "Write the tables into docs/recipes.md instead of printing them.")

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
PAGE = os.path.join("docs", "recipes.md")
PUBLISHED = os.path.join("configs", "published.json")
BEGIN, END = "<!-- recipes -->\n", "<!-- /recipes -->\n"
_ORDER = ("model", "weights", "init_from", "num_classes", "train_split", "place_input", "size", "epochs", "train", "groups",
          "batch_size", "lr", "lr_schedule", "lr_factor", "lr_decay", "warmup_epochs", "optimizer", "momentum")
_BY_DEFAULT = {"loss": tasks.SINGLE_LABEL.losses[0], "monitor": tasks.SINGLE_LABEL.monitors[0]}  # for None
_UNTOLD = object()  # of a stage or a variant, by its author


@dataclasses.dataclass(frozen=True)
class Line:
    """A setting of a variant.

    Attributes:
      name: of the flag, or in words.
      published, recipe, ours: as a reader sees them; None: not told, or there is no such recipe.
      differs: the recipe is there, and is not as published.
    """

    name: str
    published: Optional[str]
    recipe: Optional[str]
    ours: Optional[str]
    differs: bool


@dataclasses.dataclass(frozen=True)
class Variant:
    """One of a solution's published recipes.

    Attributes:
      name: of its flagfile.
      path, ours: the flagfiles, from the project's folder; None where there is none.
      lines: its settings.
    """

    name: str
    path: Optional[str]
    ours: Optional[str]
    lines: tuple[Line, ...]


def read_published() -> dict[str, Any]:
    return files.read_json(os.path.join(ROOT, PUBLISHED))


def variants_of(folder: str, solution: Mapping[str, Any]) -> list[Variant]:
    """The variants of a solution of published.json, in whose folder of configs/ the recipes lie."""
    return [_variant(folder, name, solution, {**variant}) for name, variant in solution["variants"].items()]


def _variant(folder: str, name: str, solution: Mapping[str, Any], variant: Mapping[str, Any]) -> Variant:
    program = solution.get("command", "multi_stage_train")
    paths = [os.path.join(settings.CONFIGS, folder, f"{name}.flags"),
             os.path.join(settings.CONFIGS, folder, "ours", f"{variant.get('ours', name)}.flags")]
    path, ours = (one if os.path.exists(one) else None for one in paths)
    recipe, of_ours = (read_recipe(one, program) if one else None for one in (path, ours))
    told = _published_values(solution, variant)
    names = dict.fromkeys([*told, *(recipe.said() if recipe else []), *(of_ours.said() if of_ours else [])])
    lines = [_line(one, told.get(one), recipe, of_ours) for one in sorted(names, key=_place)]
    for what, (published, here, *_) in {**solution.get("beyond", {}), **variant.get("beyond", {})}.items():
        lines.append(Line(what, published, here if path else None, here if ours else None, bool(path) and published != here))
    return Variant(name, path, ours, tuple(lines))


def _place(name: str) -> tuple:
    return (name.endswith("(run.flags)"), _ORDER.index(name) if name in _ORDER else len(_ORDER), name)


def _published_values(solution: Mapping[str, Any], variant: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Of each flag the published values, one for each stage where a stage has it; _UNTOLD for stages that don't tell."""
    common, own = solution.get("stages", []), variant.get("stages", [])
    stages = [{**(common[number] if number < len(common) else {}), **(own[number] if number < len(own) else {})}
              for number in range(max(len(common), len(own)))]
    whole = {**solution.get("flags", {}), **variant.get("flags", {})}
    names = dict.fromkeys([*whole, *(name for stage in stages for name in stage)])
    of_stages = {name for stage in stages for name in stage} | (set(STAGE_FLAGS) if stages else set())
    found = {name: [stage.get(name, whole.get(name, _UNTOLD)) for stage in stages] if name in of_stages else [whole[name]]
             for name in names}
    if "lr" in found and stages:
        found["lr"] = [_peak(stage.get("lr", _UNTOLD), {**whole, **stage}) for stage in stages]
    run = {**solution.get("run", {}), **variant.get("run", {})}
    return {**{name: values for name, values in found.items() if name not in NOT_SHOWN},
            **{run_name(name): [value] for name, value in run.items()}}


def _peak(rate: Any, said: Mapping[str, Any]) -> Any:
    if rate is _UNTOLD:
        return rate
    factor = said["batch_size"] / said["lr_batch"] if said.get("scale_lr") else 1
    return ":".join(f"{factor * float(one):g}" for one in str(rate).split(":"))


def _line(name: str, told: Optional[Sequence[Any]], recipe: Optional[Recipe], ours: Optional[Recipe]) -> Line:
    of_recipe, of_ours = (_values(one, name) for one in (recipe, ours))
    differs = bool(told and recipe) and not _same(name, told, of_recipe)
    return Line(name, _told(name, told), *(_shown(name, one) for one in (of_recipe, of_ours)), differs)


def _values(recipe: Optional[Recipe], name: str) -> Optional[Sequence[Any]]:
    if recipe is None:
        return None
    return recipe.values.get(name, ["no such flag"])


def _same(name: str, told: Sequence[Any], values: Sequence[Any]) -> bool:
    if len(told) != len(values) and len({*map(str, told)}) > 1:
        return False
    wanted = list(told) if len(told) == len(values) else [told[0]] * len(values)
    flag_of = [one.get("flag", _UNTOLD) if isinstance(one, dict) else one for one in wanted]
    beyond_us = any(one is _UNTOLD and isinstance(of, dict) for one, of in zip(flag_of, wanted))  # told; no flag says it
    return not beyond_us and all(one is _UNTOLD or _text(name, one) == _text(name, value)
                                 for one, value in zip(flag_of, values))


def _told(name: str, told: Optional[Sequence[Any]]) -> Optional[str]:
    if told is None:
        return None
    texts = [one["told"] if isinstance(one, dict) else "not told" if one is _UNTOLD else _text(name, one) for one in told]
    return _joined(texts)


def _shown(name: str, values: Optional[Sequence[Any]]) -> Optional[str]:
    return None if values is None else _joined([_text(name, one) for one in values])


def _joined(texts: Sequence[str]) -> str:
    return texts[0] if len(set(texts)) == 1 else " → ".join(texts)


def _text(name: str, value: Any) -> str:
    """A flag's value as it is written in a flagfile."""
    if value is None:
        return _BY_DEFAULT.get(name, "none")
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return " ".join(map(str, value)) if isinstance(value, list) else str(value) or "none"


def rows(variants: Sequence[Variant]) -> list[tuple[str, str, str, str]]:
    """(setting, published, recipe, ours) in the order of the settings; variants that are alike in one share a row."""
    found = []
    for name in sorted(dict.fromkeys(line.name for one in variants for line in one.lines), key=_place):
        alike: dict[tuple, list[tuple[Variant, Line]]] = {}
        for variant in variants:
            for line in variant.lines:
                if line.name == name:
                    alike.setdefault(_cells(line), []).append((variant, line))
        having = [variant for group in alike.values() for variant, _ in group]
        for (published, recipe, ours), group in alike.items():
            recipe = recipe if any(variant.path for variant, _ in group) else "–"
            ours = ours if any(variant.ours for variant, _ in group) else "–"
            found.append((name + _of([variant.name for variant, _ in group], [one.name for one in having], variants),
                          published, recipe, ours))
    return found


def _cells(line: Line) -> tuple[str, str, str]:
    """What a row says of a line: `=` where the recipe is as published, or ours as the recipe."""
    as_published = line.recipe is None or line.published is not None and not line.differs
    recipe = "=" if as_published else f"**{line.recipe}**" if line.differs else line.recipe
    return line.published or "–", recipe, "=" if line.ours in (None, line.recipe) else line.ours


def _of(names: Sequence[str], having: Sequence[str], variants: Sequence[Variant]) -> str:
    """Which variants a row is of; nothing where it is of all."""
    rest = [one.name for one in variants if one.name not in names]
    if not rest:
        return ""
    most = len(rest) < len(names) and len(having) == len(variants)
    return f": all but {', '.join(rest)}" if most else f": {', '.join(names)}"


def render(published: Mapping[str, Any]) -> str:
    """All solutions' tables in Markdown."""
    parts = ["`=`: as in the column before. **Bold**: not as published, as the recipe's header says. –: there is none, or it is "
             "not told.\nRates (`lr`) are what they come to with the batch; → is from stage to stage. What is missing is as the "
             "command\nhas it by default.\n"]
    for folder, solution in published["solutions"].items():
        variants = variants_of(folder, solution)
        table = [f"### {solution['title']}", "", "| setting | published | recipe | ours |", "|---|---|---|---|"]
        table += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows(variants)]
        parts += ["\n".join(table) + "\n", *_lacking(variants)]
    return "\n".join(parts)


def _lacking(variants: Sequence[Variant]) -> list[str]:
    """A line that names the variants without a recipe, and those with one of ours where not all have one."""
    without = [one.name for one in variants if not one.path]
    ours = [one.name for one in variants if one.ours]
    told = [f"Without a recipe: {', '.join(without)}."] if without else []
    told += [f"Ours: {', '.join(ours)}."] if ours and len(ours) < len(variants) else []
    return [" ".join(told) + "\n"] if told else []


def unnamed(variant: Variant, published: Mapping[str, Any], beyond: Mapping[str, Any]) -> list[str]:
    """The settings in which a recipe is not as published, and which its header does not name under "On purpose not …"."""
    if not variant.path:
        return []
    told = told_on_purpose(variant.path)
    words = {**published["words"], **{what: one[2:] for what, one in beyond.items()}}
    missing = []
    for line in variant.lines:
        name = line.name.removesuffix(" (run.flags)")
        if line.differs and not _is_named(told, [*words.get(name, []), name, name.replace("_", " ")]):
            missing.append(f"{line.name}: published {line.published}, here {line.recipe}")
    return missing


def _is_named(told: str, words: Iterable[str]) -> bool:
    return any(word.lower() in told for word in words)


def told_on_purpose(path: str) -> str:
    """What a header says under "On purpose not as published", in small letters, and what that of a recipe it names says."""
    with open(path, encoding="utf-8") as file:
        header = [line[1:].strip() for line in itertools.takewhile(lambda line: line.startswith("#"), file)]
    _, _, told = " ".join(header).partition("On purpose not as published")
    others = [os.path.join(os.path.dirname(path), name) for name in re.findall(r"\w+\.flags", told)]
    return " ".join([told, *(told_on_purpose(one) for one in others if one != path and os.path.exists(one))]).lower()


def main() -> None:
    os.chdir(ROOT)  # where the recipes' own --flagfile= are looked for
    text = render(read_published())
    if not FLAGS.write:
        print(text, end="")
        return
    with open(PAGE, encoding="utf-8") as file:
        before, _, rest = file.read().partition(BEGIN)
    files.write_whole(PAGE, f"{before}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    print(f"written: {PAGE}")


if __name__ == "__main__":
    command.run(main)
