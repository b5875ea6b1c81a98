"""The rooms of the house: imports run downwards only, there are no circles, and files stay short enough to be read.

The checks are functions of a root folder, so that they are tried on planted mistakes too.
"""

import ast
import collections
import dataclasses
import pathlib
from typing import Iterator

import pytest

from conftest import ROOT

# From the ground up; what lies in pipeline/ itself is the ground, which every room uses.
ROOMS = ("metrics", "tasks", "pictures", "ops", "records", "models", "devices", "runs", "training", "geo", "answers",
         "prediction", "report", "evaluation", "export", "experiment", "preflight")
# Beside the ground: what records look like and how they lie in files, and how a file becomes the picture of one (which whoever serves a model needs
# to do in the same way, without TensorFlow).
OPEN_TO_DATASET_TOOLS = ("pipeline.records.schema", "pipeline.records.frames", "pipeline.pictures.bad",
                         "pipeline.pictures.prepare", "pipeline.pictures.remarks", "pipeline.pictures.upright")
MAX_LINES = 320


@dataclasses.dataclass(frozen=True)
class Import:
    """One module that a file imports, anywhere in it."""

    source: str  # dotted name of the file
    target: str
    where: str   # path:line


def _name(path: pathlib.Path, root: pathlib.Path) -> str:
    """The dotted name of a file; a package's __init__.py is the package."""
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _files(root: pathlib.Path) -> dict[str, pathlib.Path]:
    """Our Python files by their dotted names: packages, mains, tests."""
    folders = [folder for folder in root.iterdir() if folder.is_dir() and not folder.name.startswith(".")
               and folder.name not in ("runs", "configs", "docs")]
    paths = [*root.glob("*.py"), *(path for folder in folders for path in folder.rglob("*.py"))]
    return {_name(path, root): path for path in sorted(paths)}


def _targets(node: ast.AST, package: str) -> Iterator[tuple[str, list[str]]]:
    """(module, names taken from it) of a statement that imports, in whatever way."""
    if isinstance(node, ast.Import):
        for one in node.names:
            yield one.name, []
    elif isinstance(node, ast.ImportFrom):
        base = ".".join(package.split(".")[:len(package.split(".")) + 1 - node.level]) if node.level else ""
        yield ".".join(filter(None, (base, node.module))), [one.name for one in node.names]
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in ("import_module", "__import__"):
            yield str(node.args[0].value), []


def read_imports(root: pathlib.Path) -> list[Import]:
    """Every import of one of our files by another: late ones, and those for type hints, too."""
    files, found = _files(root), []
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            for module, names in _targets(node, package):
                # `from package import module` means the module, `from module import function` the file that has it.
                targets = [whole if (whole := f"{module}.{one}") in files else module for one in names] or [module]
                found += [Import(name, target, f"{path.relative_to(root).as_posix()}:{node.lineno}")
                          for target in dict.fromkeys(targets) if target in files and target != name]
    return found


def _floor(module: str) -> int:
    """0 for the ground, then the rooms' numbers; a room that is not in the list is above them all."""
    parts = module.split(".")
    if len(parts) < 3 and parts[-1] not in ROOMS:
        return 0
    return ROOMS.index(parts[1]) + 1 if parts[1] in ROOMS else len(ROOMS) + 1


def climbing(root: pathlib.Path) -> list[str]:
    """Imports from a room further up."""
    return [f"{one.where}: {one.source} imports {one.target}, from a room above its own" for one in read_imports(root)
            if one.source.split(".")[0] == one.target.split(".")[0] == "pipeline" and _floor(one.source) < _floor(one.target)]


def circles(root: pathlib.Path) -> list[str]:
    """Files that import one another around a corner: a line for each circle, with every import that makes it."""
    edges = collections.defaultdict(dict)
    for one in read_imports(root):
        edges[one.source].setdefault(one.target, one.where)
    told, done = [], set()

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            circle = way[way.index(module):] + [module]
            told.append("a circle: " + ", ".join(f"{one} → {other} ({edges[one][other]})"
                                                 for one, other in zip(circle, circle[1:])))
        elif module not in done:
            for target in edges[module]:
                visit(target, [*way, module])
            done.add(module)

    for module in sorted(edges):
        visit(module, [])
    return told


def trespassing(root: pathlib.Path) -> list[str]:
    """What pipeline takes from outside, and dataset_tools from rooms that are closed to it."""
    told = []
    for one in read_imports(root):
        of, to = one.source.split(".")[0], one.target.split(".")[0]
        if of == "pipeline" and to != "pipeline":
            told.append(f"{one.where}: {one.source} imports {one.target}; pipeline imports itself alone")
        elif of == "dataset_tools" and to != "dataset_tools" and not (
                to == "pipeline" and (_floor(one.target) == 0 or one.target in OPEN_TO_DATASET_TOOLS)):
            told.append(f"{one.where}: {one.source} imports {one.target}; of pipeline it may import the ground and "
                        f"{', '.join(OPEN_TO_DATASET_TOOLS)}")
    return told


def unknown_rooms(root: pathlib.Path) -> list[str]:
    """Folders of pipeline/ without a floor, or that don't tell what they are."""
    told = []
    for path in sorted((root / "pipeline").rglob("*.py")):
        room = path.relative_to(root / "pipeline").parts[0]
        if room != path.name and room not in ROOMS:
            told.append(f"{path.relative_to(root).as_posix()}: {room} is not among the rooms")
    for room in ROOMS:
        init = root / "pipeline" / room / "__init__.py"
        if init.parent.is_dir() and any(init.parent.glob("*.py")) and not (
                init.is_file() and ast.get_docstring(ast.parse(init.read_text(encoding="utf-8")))):
            told.append(f"pipeline/{room}/__init__.py does not tell what the room is")
    return told


def too_long(root: pathlib.Path) -> list[str]:
    """Files that want splitting."""
    counts = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _files(root).values()}
    return [f"{path.relative_to(root).as_posix()}: {count} lines, more than {MAX_LINES}" for path, count in counts.items()
            if count > MAX_LINES]


def room_imports(root: pathlib.Path) -> dict[str, list[str]]:
    """The rooms that each one imports from, from the ground up."""
    found = {room: set() for room in ROOMS if (root / "pipeline" / room / "__init__.py").is_file()}
    for one in read_imports(root):
        if not one.source.split(".")[0] == one.target.split(".")[0] == "pipeline":
            continue
        floors = _floor(one.source), _floor(one.target)
        if min(floors) > 0 and floors[0] != floors[1]:
            found[ROOMS[floors[0] - 1]].add(ROOMS[floors[1] - 1])
    return {room: sorted(others, key=ROOMS.index) for room, others in found.items()}


CHECKS = (climbing, circles, trespassing, unknown_rooms, too_long)


def test_the_pages_table_of_imports_is_true():
    told = {}
    for line in (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 2 and set(cells[0].split(", ")) <= set(ROOMS):
            imported = cells[1].split(" (")[0]
            told |= {room: [] if imported == "nothing" else imported.split(", ") for room in cells[0].split(", ")}
    assert told == room_imports(ROOT)


@pytest.mark.parametrize("check", CHECKS)
def test_the_house_stands(check):
    assert check(ROOT) == []


def test_the_imports_are_read():
    """So that none of the checks passes because it saw nothing."""
    found = {(one.source, one.target) for one in read_imports(ROOT)}
    assert ("pipeline.command", "pipeline.errors") in found
    assert ("multi_stage_train", "pipeline.training.train") in found  # a late one
    rooms = {source.split(".")[1] for source, _ in found if source.startswith("pipeline.")}
    assert {"records", "training", "evaluation"} <= rooms


# Planted mistakes

@pytest.fixture
def house(tmp_path):
    """A small house in which nothing is wrong."""
    for path, text in {
        "main.py": "from pipeline.training import train\nfrom dataset_tools import build\n",
        "dataset_tools/__init__.py": "", "dataset_tools/build.py":
        "from pipeline import files\nfrom pipeline.errors import UserError\nfrom pipeline.records.schema import Key\n",
        "pipeline/__init__.py": "", "pipeline/errors.py": "import os\n", "pipeline/files.py": "from pipeline import errors\n",
        "pipeline/records/__init__.py": '"""Records."""\n', "pipeline/records/schema.py": "Key = str\n",
        "pipeline/records/dataset.py": "from pipeline import files\nfrom pipeline.records import schema\n",
        "pipeline/training/__init__.py": '"""Training."""\n', "pipeline/training/step.py": "",
        "pipeline/training/train.py": "from pipeline.records import dataset as datasets\nfrom pipeline.training import step\n",
    }.items():
        _write(tmp_path / path, text)
    assert not any(check(tmp_path) for check in CHECKS)
    return tmp_path


def _write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize("path, text, line", [
    ("pipeline/records/input.py", "import os\nfrom pipeline.training import step\n", 2),
    ("pipeline/records/input.py", "from pipeline.training.step import apply, other\n", 1),
    ("pipeline/records/input.py", "import pipeline.training.step as step\n", 1),
    ("pipeline/records/input.py", "from ..training import step\n", 1),
    ("pipeline/records/input.py", "def f():\n    import os\n    from pipeline.training import step\n", 3),
    ("pipeline/records/input.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pipeline.training import step\n", 3),
    ("pipeline/records/input.py", "import importlib\nstep = importlib.import_module('pipeline.training.step')\n", 2),
    ("pipeline/progress.py", "\n\nfrom pipeline.training import step\n", 3),  # from the ground
    ("pipeline/__init__.py", "from pipeline.training import step\n", 1)])
def test_an_upward_import_is_found(house, path, text, line):
    _write(house / path, text)
    (told,) = climbing(house)
    assert told.startswith(f"{path}:{line}: ") and "imports pipeline.training.step" in told


@pytest.mark.parametrize("text", ["from pipeline.training import train\n", "def f():\n    from pipeline.training.train import run\n"])
def test_a_circle_is_found(house, text):
    _write(house / "pipeline/training/step.py", text)
    (told,) = circles(house)
    line = len(text.splitlines())
    assert f"pipeline.training.step → pipeline.training.train (pipeline/training/step.py:{line})" in told
    assert "pipeline.training.train → pipeline.training.step (pipeline/training/train.py:2)" in told
    assert climbing(house) == []


def test_a_circle_over_three_files_is_found(house):
    _write(house / "pipeline/errors.py", "from pipeline import progress\n")
    _write(house / "pipeline/progress.py", "def f():\n    from pipeline.files import find\n")
    (told,) = circles(house)
    assert told.count("→") == 3 and "pipeline/progress.py:2" in told


@pytest.mark.parametrize("path, text, target", [
    ("pipeline/files.py", "def f():\n    from dataset_tools import build\n", "dataset_tools.build"),
    ("pipeline/files.py", "import os\nimport main\n", "main"),
    ("dataset_tools/more.py", "import os\nfrom pipeline.records import schema, dataset\n", "pipeline.records.dataset"),
    ("dataset_tools/more.py", "import os\nfrom pipeline.training.step import apply\n", "pipeline.training.step"),
    ("dataset_tools/more.py", "import os\nimport main\n", "main")])
def test_what_is_imported_across_the_packages_is_found(house, path, text, target):
    _write(house / path, text)
    (told,) = trespassing(house)
    assert told.startswith(f"{path}:2: ") and f"imports {target};" in told


def test_a_room_without_a_floor_is_found(house):
    _write(house / "pipeline/attic/box.py", "")
    assert unknown_rooms(house) == ["pipeline/attic/box.py: attic is not among the rooms"]
    _write(house / "pipeline/records/__init__.py", "")
    assert "pipeline/records/__init__.py does not tell what the room is" in unknown_rooms(house)


def test_a_long_file_is_found(house):
    _write(house / "pipeline/training/step.py", "\n" * MAX_LINES)
    assert too_long(house) == []
    _write(house / "pipeline/training/step.py", "\n" * (MAX_LINES + 1))
    assert too_long(house) == ["pipeline/training/step.py: 321 lines, more than 320"]
