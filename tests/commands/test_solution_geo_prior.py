"""The sixth-place solution's flags for its geo prior on predict.py: what they must agree with."""

import json

import pytest

from raw_data import assert_one_line_mistake, run_command


def geo_prior(folder, **same):
    """run.json of a geo prior."""
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"same": {"date_input": True, "embed_dim": 256, **same}, "free": {}}))
    return folder


def predict(tmp_path, *flags):
    return run_command("predict.py", f"--ckpt_dir={tmp_path}/model", f"--geo_prior_ckpt_dir={tmp_path}/geo", *flags)


def test_a_checkpoint_of_another_program_is_named(tmp_path):
    (tmp_path / "geo").mkdir()
    for name in ("checkpoint", "ckp.index", "ckp.data-00000-of-00001"):
        (tmp_path / "geo" / name).write_bytes(b"")
    assert_one_line_mistake(predict(tmp_path, "--submission_file_path=s.csv"), "--geo_prior_ckpt_dir", f"{tmp_path}/geo",
                            "train_geo_prior.py")


def test_a_classifiers_folder_is_no_geo_prior(tmp_path):
    folder = geo_prior(tmp_path / "geo")
    (folder / "run.json").write_text(json.dumps({"same": {"model": "keras/resnet50"}, "free": {}}))
    assert_one_line_mistake(predict(tmp_path, "--submission_file_path=s.csv"), "train_geo_prior.py")


@pytest.mark.parametrize("flags, words", [
    ([], ["--submission_file_path"]),
    (["--submission_file_path=s.csv", "--embed_dim=128"], ["--embed_dim=128", "256"]),
    (["--submission_file_path=s.csv", "--use_bn_geo_prior"], ["--use_bn_geo_prior", "False"]),
    (["--submission_file_path=s.csv", "--geo_prior_input_size=4"], ["--geo_prior_input_size=4", "6"]),
    # Whatever agrees gets as far as the model.
    (["--submission_file_path=s.csv", "--embed_dim=256", "--geo_prior_input_size=6"], ["model", "run.json"]),
])
def test_flags_must_agree_with_the_prior(tmp_path, flags, words):
    geo_prior(tmp_path / "geo")
    assert_one_line_mistake(predict(tmp_path, *flags), *words)


@pytest.mark.parametrize("flag, words", [("--use_bn_geo_prior", ["model", "run.json"]), ("--nouse_bn_geo_prior", ["True"])])
def test_a_prior_with_batch_normalization(tmp_path, flag, words):
    geo_prior(tmp_path / "geo", batch_norm="first")
    assert_one_line_mistake(predict(tmp_path, "--submission_file_path=s.csv", flag), *words)
