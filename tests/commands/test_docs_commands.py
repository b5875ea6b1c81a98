"""Every command in README.md and docs/ runs, on tiny data and networks, or says what it needs; every link leads somewhere.

A ```bash block's commands run as they stand, in a copy of the checkout: `python` is a stand-in that starts the real one with
the flags of STAND_IN, the recipes in configs/ are rewritten by SMALLER, as the text is, and the home folder holds tiny
competitions. Of a command below a line `# needs …` (it holds to the block's end) the flags alone are parsed.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from conftest import ROOT
from pipeline.experiment import settings
import multi_label_raw
import raw_data
import solution_records
import tiny_records

PAGES = ("README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")))
MAX_README_LINES = 150

# What becomes smaller, in commands as in recipes: (pattern, what stands there instead).
SMALLER = (
    (r"--model=\S+/\S+", "--model=kecam/EfficientNetV2Tiny"),
    (r"--weights=[^\s\"']+", "--weights=none"),
    (r"(?<=,)size=\d+", "size=32"),
    (r"(?<=,)train=(last|from):\w+", "train=last:6"),
    (r"(?m)^--num_classes=\d+$", ""),
    (r"(?m)^--stage=name=(last|fixres),.*$", ""),  # of a recipe's stages the first is enough
    (r"--batch_size=\d+", "--batch_size=4"),
    (r"--folds=\d+", "--folds=2"),
    (r"(?<==)/data/", "../home/data/"),
)

# What another test runs as it stands; here its flags are parsed.
ELSEWHERE = {"bash run_inference.sh": "tests/commands/test_run_scripts.py"}

# `python`: what follows each command's own flags.
STAND_IN = """#!/bin/bash
case "$1 $2" in
  "multi_stage_train.py "*) set -- "$@" --max_steps=1 ;;
  "train_geo_prior.py "*) set -- "$@" --epochs=1 ;;
  *"/run.py "*) set -- "$1" --until=submission "${{@:2}}" ;;
  "-m pytest") set -- "$@" --numprocesses=0 tests/test_progress.py ;;
  "-c "*) if [[ -n "$FLAGS_ALONE" ]]; then exit 0; fi ;;
esac
exec {python} "$@" $FLAGS_ALONE
"""
FLAGS_ALONE = "--only_check_args"  # absl's own: parses them, and ends with 0

# Pages whose commands go on with what those of another have left.
CONTINUES = {"docs/place_and_date.md": "docs/recipes.md", "docs/use.md": "docs/place_and_date.md"}


@dataclasses.dataclass(frozen=True)
class Command:
    text: str    # one logical line
    where: str   # page:line
    needs: str   # what it says that it needs; '' where it is to run


def blocks_of(text, page):
    """The lists of commands in ```bash blocks; with a `# needs …` line above, it holds for the block's rest."""
    blocks, lines = [], text.split("\n")
    number = 0
    while number < len(lines):
        if lines[number].strip() == "```bash":
            commands, needs = [], ""
            number += 1
            while lines[number].strip() != "```":
                begin, line = number, lines[number].strip()
                while line.endswith("\\"):
                    number += 1
                    line = f"{line[:-1].rstrip()} {lines[number].strip()}"
                number += 1
                if line.startswith("# needs "):
                    needs = line[len("# needs "):]
                elif line and not line.startswith("#"):
                    commands.append(Command(line, f"{page}:{begin + 1}", needs))
            blocks.append(commands)
        number += 1
    return blocks


def commands_of(page):
    return [one for block in blocks_of((ROOT / page).read_text(encoding="utf-8"), page) for one in block]


ALL = {page: commands_of(page) for page in PAGES}


def bare(text):
    """Without a comment at its end."""
    return re.sub(r"\s+#.*", "", text)


def smaller(text):
    for pattern, instead in SMALLER:
        text = re.sub(pattern, instead, text)
    return text


def write_home(home):
    """The competitions that the commands name, with a few pictures each."""
    tiny_records.write_raw(home / "inat2021", train=12, val=5, test=4)
    tiny_records.write_raw(home / "inat2019", train=12, val=5, test=4)
    for split, there in (("train", "train2019"), ("val", "val2019"), ("public_test", "test2019")):
        (home / "inat2019" / f"{split}.json").rename(home / "inat2019" / f"{there}.json")
    multi_label_raw.write(home / "imet2019", train=16, test=3)
    for split, count in (("train", 12), ("val", 5), ("test", 4)):
        for number in range(count):
            of_class = "" if split == "test" else f"/{('admiral', 'brimstone', 'comma')[number % 3]}"
            raw_data.write(home / "butterflies" / f"{split}{of_class}" / f"{split}{number}.jpg",
                           raw_data.encode(raw_data.pixels(number)))
    write_turtles(home / "turtle_recall")
    solution_records.write(home / "data", "train", 6)
    solution_records.write(home / "data", "val", 4)


def write_turtles(folder):
    known = "".join(f"ID_{number},left,t_{number % 3}\n" for number in range(12))
    raw_data.write(folder / "train.csv", f"image_id,image_location,turtle_id\n{known}".encode())
    raw_data.write(folder / "extra_images.csv", b"image_id,turtle_id\nID_12,t_0\nID_13,t_9\n")
    raw_data.write(folder / "test.csv", b"image_id,image_location\nID_14,left\n")
    for number in range(15):
        raw_data.write(folder / "images" / f"ID_{number}.JPG", raw_data.encode(raw_data.pixels(number)))


def _not_of_the_checkout(folder, names):
    return [name for name in names if name == "__pycache__" or pathlib.Path(folder) == ROOT and (
        name == "runs" or name.startswith("."))]


class Checkout:
    """A copy of this one for each page, in which its commands run."""

    def __init__(self, folder):
        self.folder, self.home, self.programs = folder, folder / "home", folder / "bin"
        write_home(self.home)
        self.programs.mkdir()
        self._done = {}
        for name in ("python", "python3"):
            (self.programs / name).write_text(STAND_IN.format(python=sys.executable))
            (self.programs / name).chmod(0o755)

    def of(self, page):
        """The page's copy of the checkout; made of that of the page which it goes on from."""
        copy = self.folder / page.replace("/", "_")
        if not copy.exists():
            before = CONTINUES.get(page)
            shutil.copytree(self.of(before) if before else ROOT, copy, ignore=None if before else _not_of_the_checkout)
            for recipe in () if before else copy.glob("configs/**/*.flags"):
                recipe.write_text(smaller(recipe.read_text(encoding="utf-8")), encoding="utf-8")
        return copy

    def run_all(self, page, chosen=lambda text: True):
        """Runs the page's chosen commands in their order, each once; those of the page before it first."""
        if page in CONTINUES:
            self.run_all(CONTINUES[page])
        for command in ALL[page]:
            if not (command.needs or bare(command.text) in ELSEWHERE or command in self._done) and chosen(command.text):
                self._done[command] = self.run(page, command)
                assert_done(self._done[command], command)

    def run(self, page, command, flags_alone=False):
        """Runs it by bash; flags_alone: has its flags parsed."""
        return subprocess.run(
            ["bash", "-c", command.text if flags_alone else smaller(command.text)], cwd=self.of(page),
            capture_output=True, text=True, timeout=900, check=False,
            env={**os.environ, "HOME": str(self.home), "PATH": f"{self.programs}:{os.environ['PATH']}",
                 "PYTHON": str(self.programs / "python"), "FLAGS_ALONE": FLAGS_ALONE if flags_alone else ""})


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    return Checkout(tmp_path_factory.mktemp("checkout"))


def assert_done(done, command):
    assert done.returncode == 0, f"{command.where}: {command.text}\nends with {done.returncode}: {done.stderr[-2000:]}"


def test_the_commands_of_the_readmes_example_run(checkout):
    checkout.run_all("README.md", lambda text: text.startswith("python "))


@pytest.mark.slow
def test_every_command_runs_or_says_what_it_needs(checkout):
    last = [page for page in PAGES if page not in CONTINUES.values()]  # which have the pages before them run too
    last.sort(key=lambda page: -sum(not one.needs for one in ALL[page]))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(checkout.run_all, last)) == [None] * len(last)


OURS = re.compile(r"\bpython [\w.]+\.py|\bpython -m (?:benchmarks|dataset_tools)|\bbash run_")


@pytest.mark.parametrize("page", PAGES)
def test_every_commands_flags_are_known(checkout, page):
    ours = [one for one in ALL[page] if OURS.search(one.text) and "run_tests.sh" not in one.text]
    checkout.of(page)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        for command, done in zip(ours, pool.map(lambda one: checkout.run(page, one, flags_alone=True), ours)):
            assert_done(done, command)


def test_what_runs_elsewhere_stands_in_a_page():
    assert set(ELSEWHERE) <= {bare(one.text) for page in PAGES for one in ALL[page]}
    assert all((ROOT / path).exists() for path in ELSEWHERE.values())


def test_what_is_not_ours_says_what_it_needs():
    assert not [one.where for page in PAGES for one in ALL[page] if not one.needs and not OURS.search(one.text)]


def test_a_command_that_is_not_known_is_told_by_page_and_line(checkout):
    (command,), = blocks_of("Text.\n\n```bash\npython predict.py \\\n  --model_dri=b3\n```\n", "docs/planted.md")
    with pytest.raises(AssertionError, match=r"docs/planted.md:4: .*\n.*model_dri"):
        assert_done(checkout.run("README.md", command, flags_alone=True), command)


FLAG = re.compile(r"`[^`]*`")


@pytest.mark.parametrize("page", PAGES)
def test_flags_in_running_text_exist(page):
    """Those in `…`, by what all commands define (tests/test_flag_help.py holds --help to be complete)."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    named = {flag for code in FLAG.findall(text) for flag in re.findall(r"(?<![\w-])--(\w+)", code)}
    known = known_flags() | OF_ABSL_AND_SCRIPTS | BY_A_LOOP
    assert named <= known, named - known


OF_ABSL_AND_SCRIPTS = {"help", "version", "flagfile", "slow"}
BY_A_LOOP = set(settings.NAMES)  # of run.py


def known_flags():
    if not _known:
        rooms = [path for room in ("pipeline", "dataset_tools", "benchmarks") for path in (ROOT / room).rglob("*.py")]
        for path in [*ROOT.glob("*.py"), *rooms]:
            text = path.read_text(encoding="utf-8")
            _known.update(re.findall(r"(?:DEFINE_\w+|define_\w+)\(\s*f?\"(\w+)\"", text))
            _known.update(re.findall(r"flags\.Flag\([^\"]*\"(\w+)\"", text))  # with a parser of its own
    return _known


_known = set()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MAX_README_LINES


def anchors_of(path):
    """What GitHub makes of its headings."""
    titles = re.findall(r"(?m)^#+ (.*)$", path.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_relative_links_lead_somewhere(page):
    folder = (ROOT / page).parent
    for target in re.findall(r"\]\(([^)\s]+)\)", (ROOT / page).read_text(encoding="utf-8")):
        if re.match(r"\w+:", target):
            continue
        path, _, anchor = target.partition("#")
        there = folder / path if path else ROOT / page
        assert there.exists(), f"{page}: {target}"
        assert not anchor or anchor in anchors_of(there), f"{page}: {target}"


def test_every_page_is_linked_from_the_readme():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page for page in PAGES[1:] if f"({page})" not in text] == []


PATH = re.compile(r"`((?:configs|pipeline|dataset_tools|docs|tests|benchmarks)/[\w./*-]*)`")


@pytest.mark.parametrize("page", PAGES)
def test_files_that_a_page_names_exist(page):
    for name in PATH.findall((ROOT / page).read_text(encoding="utf-8")):
        if not re.search(r"[A-Z]{3}", name):  # COMPETITION, NAME
            assert list(ROOT.glob(name.rstrip("/"))), f"{page}: {name}"
