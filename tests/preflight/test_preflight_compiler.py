"""preflight.py with the TPU's own compiler, which the first of these tests installs. In one file, so by one process."""

import shutil

import pytest
import tensorflow as tf

from pipeline.errors import UserError
from pipeline.preflight import compiler, environment, roofline, rows
from pipeline.preflight.lowering import lower
from raw_data import REPOSITORY, run_command

pytestmark = pytest.mark.slow

RECIPE = ("--model=kecam/EfficientNetV2Tiny", "--num_classes=5", "--optimizer=adam", "--batch_size=16", "--tta=flip",
          "--stage=name=all,epochs=1,size=32,lr=0.01,train=all")


@pytest.fixture(scope="module", autouse=True)
def compiler_at_hand():
    try:
        environment.python()
    except UserError as error:  # no network, no room
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("preflight")


def cells(output):
    """{(stage, step): {column: cell}} of a printed table."""
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in output.splitlines() if line.startswith("|")]
    header, _, *body = lines
    return {(line[1], line[2]): dict(zip(header, line)) for line in body}


def test_what_a_product_of_matrices_takes(cache):
    """By its formula: 2·m·k·n operations, its operands and its result once over the wire."""
    m, k, n = 512, 1024, 2048
    program = lower(tf.matmul, [tf.TensorSpec([m, k]), tf.TensorSpec([k, n])])
    result = compiler.Compiler("v3:2x2", str(cache)).compile(program)
    assert result.error == ""
    assert result.flops == pytest.approx(2 * m * k * n, rel=0.05)
    assert result.arguments == 4 * (m * k + k * n) and result.outputs == 4 * m * n
    assert result.moved_bytes == pytest.approx(4 * (m * k + k * n + m * n), rel=0.5)


def test_a_variable_that_is_updated_takes_its_own_place(cache):
    variable = tf.Variable(tf.zeros([1024, 1024]))

    def step(values):
        variable.assign_add(values)
        return tf.reduce_sum(variable)

    result = compiler.Compiler("v3:2x2", str(cache)).compile(lower(step, [tf.TensorSpec([1024, 1024])]))
    assert result.arguments == 2 * 4 * 1024**2
    assert result.outputs < 1024**2


def test_more_variables_than_a_program_takes_one_by_one(cache):
    variables = [tf.Variable(tf.zeros([8, 128])) for _ in range(2100)]

    def step(values):
        for variable in variables:
            variable.assign_add(values)

    result = compiler.Compiler("v3:2x2", str(cache)).compile(lower(step, [tf.TensorSpec([8, 128])]))
    assert result.error == ""
    assert result.arguments == pytest.approx(4 * 8 * 128 * (2100 + 1), rel=0.01)  # and the tuple's own table
    assert result.outputs < 4 * 8 * 128 * 100  # they stay where they are


def test_a_small_recipe_compiles_and_the_second_time_at_once(cache):
    first = run_command("preflight.py", *RECIPE, f"--cache_dir={cache}", f"--out={cache}/table.md")
    assert first.returncode == 0, first.stderr
    table = cells(first.stdout)
    assert set(table) == {("all", "train"), ("all", "validate"), ("all", "predict")}
    assert all(line["fits"] == "yes" for line in table.values())
    assert table["all", "train"]["a core"] == "2" and table["all", "predict"]["a core"] == "4 × 2"
    assert float(table["all", "train"]["GFLOP"]) > 2 * float(table["all", "validate"]["GFLOP"])
    assert (cache / "table.md").read_text() == first.stdout
    made = {path: path.stat().st_mtime_ns for path in cache.glob("*.json") if "rows" not in path.name}
    again = run_command("preflight.py", *RECIPE, f"--cache_dir={cache}")
    assert again.stdout == first.stdout
    assert made == {path: path.stat().st_mtime_ns for path in cache.glob("*.json") if "rows" not in path.name}


def test_the_largest_batch_that_fits(cache):
    """Programs whose need is known: a GiB in and a GiB out for each picture, so 7 pictures of a core's 15.48."""
    with_compiler = compiler.Compiler("v3:2x2", str(cache))
    core, _ = roofline.find("v3:2x2")

    def fits(batch):
        result = with_compiler.compile(lower(tf.sin, [tf.TensorSpec([batch, 1024, 1024, 256])]))
        return not result.error and result.memory <= core.memory

    assert rows.largest(fits, 4) == 7


DRIVER = """
import runpy, sys
sys.path.insert(0, {root!r})
import tensorflow as tf
from pipeline.training import step
plain = step.apply

def with_a_lookup(classifier, features, training):
    seen = tf.py_function(lambda place: place, [features["place"]], tf.float32)  # planted
    seen.set_shape(features["place"].shape)
    return plain(classifier, features, training) + tf.reduce_sum(seen)

def with_a_selection(classifier, features, training):
    labels = tf.where(features["place"] > 0)  # planted
    return plain(classifier, features, training) + tf.cast(tf.reduce_sum(labels), tf.float32)

step.apply = with_a_lookup if sys.argv[1] == "host" else with_a_selection
sys.argv = ["preflight.py", *sys.argv[2:]]
runpy.run_path({script!r}, run_name="__main__")
"""


@pytest.mark.parametrize("kind, told", [("host", "EagerPyFunc has no form that a TPU can run"),
                                        ("shape", "Where gives a shape that is known only as it runs, [<=6, 2]")])
def test_what_was_planted_is_told_with_its_line(kind, told, cache, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER.format(root=str(REPOSITORY), script=str(REPOSITORY / "preflight.py")))
    done = run_command(str(script), kind, *RECIPE, f"--cache_dir={cache}")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    table = cells(done.stdout)
    assert [table["all", step]["fits"] for step in ("train", "validate", "predict")] == ["no"] * 3
    number = next(number for number, line in enumerate(DRIVER.splitlines(), 1) if "planted" in line
                  and ("py_function" in line) == (kind == "host"))
    assert f"stage all, train: {told}" in done.stdout
    assert f"driver.py:{number} in with_a_" in done.stdout


def test_all_recipes_print_one_table(cache, tmp_path):
    """On a copy of the project with two small recipes, the second of which the cores can't share."""
    copy = tmp_path / "project"
    shutil.copytree(REPOSITORY / "pipeline", copy / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("preflight.py", "multi_stage_train.py"):
        shutil.copy(REPOSITORY / name, copy / name)
    (copy / ".venv-tpu-compiler").symlink_to(REPOSITORY / ".venv-tpu-compiler")
    (copy / "configs" / "a").mkdir(parents=True)
    (copy / "configs" / "a" / "small.flags").write_text("\n".join(RECIPE) + "\n")
    (copy / "configs" / "a" / "uneven.flags").write_text("\n".join(RECIPE) + "\n--batch_size=12\n")
    (copy / "configs" / "over.flags").write_text("--tpu=none\n")
    done = run_command(str(copy / "preflight.py"), "--all_recipes", f"--cache_dir={cache}")
    assert done.returncode == 1
    last = done.stdout[done.stdout.rindex("| recipe"):]
    assert [line.split("|")[1].strip() for line in last.splitlines() if line.startswith("| a/")] == ["a/small"] * 3 + ["a/uneven"]
    assert "--batch_size=12 is not divisible" in done.stderr
    assert "a/uneven" in last.splitlines()[-1] and "ended with 2" in last.splitlines()[-1]
