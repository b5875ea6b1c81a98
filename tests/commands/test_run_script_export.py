"""The model to hand over at the end of the run scripts: of what was submitted, made anew when that changes."""

import pytest

from stand_in import Scripts
from test_run_script_flags import write_recipes

OF = ("run_inference.sh", "inat2021", "--until=export")


@pytest.fixture
def scripts(tmp_path):
    return Scripts(tmp_path)


def test_it_is_of_what_is_submitted_and_tells_the_scores(scripts, tmp_path):
    recipes = write_recipes(tmp_path, a="", b="")
    flags = {"PRIOR_FLAGS": "--prior_correction=1", "SUBMISSION_FLAGS": "--open_set=sum", **recipes}
    done = scripts.run(*OF, **flags)
    (submission,), (export,) = scripts.of("make_submission.py"), scripts.of("export.py")
    assert scripts.lines[-1] == export
    own = {f"--out={scripts.run_dir}/export", f"--scores={scripts.run_dir}/scores.json"}
    words = [set(line.replace("ein Lauf", "ein_Lauf").split()[1:]) for line in (submission, export)]
    own = {one.replace("ein Lauf", "ein_Lauf") for one in own}
    assert words[1] - words[0] == own and {one for one in words[0] - words[1]} == {
        f"--out={scripts.run_dir}/submission.csv".replace("ein Lauf", "ein_Lauf")}
    assert f"export:       {scripts.run_dir}/export" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("submission:")

    scripts.run(*OF, **flags)
    assert scripts.lines == []
    weights = scripts.run_dir / "export" / "variables" / "variables.index"
    weights.write_text("damaged")
    scripts.run(*OF, **flags)
    assert scripts.kinds() == ["export"]
    scripts.run(*OF, **{**flags, "SUBMISSION_FLAGS": "--open_set=sum --min_samples=2"})
    assert "--min_samples=2" in scripts.of("export.py")[0]
    scripts.run(*OF, **flags, FAULTS="export.py:3", PREDICT_FLAGS="--tta=six", code=3)  # the submission stands
    assert scripts.of("make_submission.py") and "export: failed" in scripts.done.stderr.splitlines()[-1]


def test_without_test_it_is_of_what_is_scored(scripts, tmp_path):
    scripts.run(*OF, GEO_PRIOR="none", SPLITS="train val", **write_recipes(tmp_path, a=""))
    (export,) = scripts.of("export.py")
    assert "models/a/predictions/val" in export and scripts.of("make_submission.py") == []


def test_models_of_boxes_have_none(scripts, tmp_path):
    done = scripts.run(*OF, GEO_PRIOR="none", **write_recipes(tmp_path, coarse="", fine="--boxes=coarse\n"))
    assert scripts.of("export.py") == [] and "export:       none, since fine looks at boxes" in done.stdout
