"""docs/recipes.md lays recipes beside what was published: the tables are the command's, and headers name what differs."""

import copy
import subprocess
import sys

import pytest

from benchmarks import recipe_table
from conftest import ROOT

PUBLISHED = recipe_table.read_published()
SOLUTIONS = PUBLISHED["solutions"]


@pytest.fixture(autouse=True)
def in_the_projects_folder(monkeypatch):
    monkeypatch.chdir(ROOT)


def variants(folder, published=PUBLISHED):
    return recipe_table.variants_of(folder, published["solutions"][folder])


def test_the_pages_tables_are_the_commands():
    done = subprocess.run([sys.executable, "-m", "benchmarks.recipe_table"], cwd=ROOT, capture_output=True, text=True,
                          timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    page = (ROOT / recipe_table.PAGE).read_text(encoding="utf-8")
    between = page.partition(recipe_table.BEGIN)[2].partition(recipe_table.END)[0]
    assert between.strip("\n") == done.stdout.strip("\n"), "python -m benchmarks.recipe_table --write makes it anew"


@pytest.mark.parametrize("folder", SOLUTIONS)
def test_every_recipe_of_a_solution_stands_in_its_table(folder):
    read = {path for one in variants(folder) for path in (one.path, one.ours) if path}
    there = {path.relative_to(ROOT).as_posix() for path in (ROOT / "configs" / folder).rglob("*.flags")}
    others = {path for path in there if path.endswith("run.flags") or folder == "geo_prior"}
    assert there - others <= read <= there


@pytest.mark.parametrize("folder", SOLUTIONS)
def test_a_header_names_what_is_not_as_published(folder):
    for variant in variants(folder):
        assert recipe_table.unnamed(variant, PUBLISHED, SOLUTIONS[folder].get("beyond", {})) == [], variant.path


@pytest.mark.parametrize("setting, value", [("batch_size", 128), ("tta", "six"), ("monitor", "val_top5"), ("clip_norm", 1.0),
                                            ("keep_all", True)])
def test_what_drifts_is_seen(setting, value):
    """As if the author had run something else, or the recipe had changed."""
    changed = copy.deepcopy(PUBLISHED)
    changed["solutions"]["turtle_recall"]["variants"]["ef1b7"]["flags"][setting] = value
    variant = next(one for one in variants("turtle_recall", changed) if one.name == "ef1b7")
    told, = (one for one in recipe_table.unnamed(variant, changed, {"shuffle buffer": [0, 0, "shuffle buffer"]}))
    assert told.startswith(f"{setting}: published ")
    text = recipe_table.render(changed)
    assert text != recipe_table.render(PUBLISHED) and any(
        line.startswith(f"| {setting}") and "**" in line for line in text.splitlines())


def line_of(folder, variant, setting):
    one, = (one for one in variants(folder) if one.name == variant)
    return next(line for line in one.lines if line.name == setting)


def test_rates_are_what_they_come_to():
    """0.1 · 32/256 and 0.008 · 32/256, by flags that scale; 5e-4 at its own batch."""
    rate = line_of("inat2021", "efficientnet_b3", "lr")
    assert rate.published == rate.recipe == f"{0.1 * 32 / 256:g} → {0.008 * 32 / 256:g}" and not rate.differs
    assert line_of("turtle_recall", "ef1b7", "lr").recipe == "0.0005"


def test_ours_and_run_flags_are_read_too():
    views = line_of("turtle_recall", "beitl", "tta")
    assert (views.published, views.recipe, views.ours, views.differs) == ("none", "none", "rot45", False)
    records = line_of("turtle_recall", "beitl", "record_flags (run.flags)")
    assert (records.published, records.recipe, records.ours) == ("--folds_by=rows", "--folds_by=rows", "none")


def test_a_header_may_refer_to_another(tmp_path):
    (tmp_path / "a.flags").write_text("# A.\n# On purpose not as published: the seed.\n--model=x\n")
    (tmp_path / "b.flags").write_text(
        "# B.\n# On purpose not as published: what a.flags lists, and\n# the Views.\n--model=x\n# the batch\n")
    (tmp_path / "c.flags").write_text("# The views are as published.\n--model=x\n")
    told = recipe_table.told_on_purpose(str(tmp_path / "b.flags"))
    assert "the seed" in told and "the views" in told and "the batch" not in told
    assert recipe_table.told_on_purpose(str(tmp_path / "c.flags")) == ""


def test_it_is_written_between_its_marks(tmp_path, monkeypatch):
    page = tmp_path / "docs" / "recipes.md"
    page.parent.mkdir()
    page.write_text(f"before\n{recipe_table.BEGIN}stale\n{recipe_table.END}after\n")
    monkeypatch.setattr(recipe_table, "PAGE", str(page))
    monkeypatch.setitem(recipe_table.FLAGS["write"].__dict__, "_value", True)
    recipe_table.FLAGS.mark_as_parsed()
    recipe_table.main()
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith(f"{recipe_table.END}after\n") and "stale" not in text
    assert "### Turtle Recall, fifth place" in text
