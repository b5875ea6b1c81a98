"""Paths that several tests share."""

import pathlib

import pytest

import pipeline  # noqa: F401  (before a test imports TensorFlow: it settles what tf.keras is, in what tests start too)

ROOT = pathlib.Path(__file__).resolve().parent.parent
SAMPLES = ROOT.parent / "shared"  # small real competitions and weights, beside the checkout where they are at hand


@pytest.fixture
def sample_data() -> pathlib.Path:
    """Folder of the small real competitions; skips where it is absent."""
    if not (SAMPLES / "data").is_dir():
        pytest.skip("the sample competitions are not here")
    return SAMPLES / "data"


@pytest.fixture
def lite0_weights() -> pathlib.Path:
    """ImageNet weights of kecam/EfficientNetV1Lite0; skips where they are absent."""
    path = SAMPLES / "weights" / "efficientnet_lite0.h5"
    if not path.is_file():
        pytest.skip("the sample weights are not here")
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """tiny_records in shards: 50 train, 11 val, 7 test pictures of 3 classes; not to be written to."""
    import tiny_records

    return tiny_records.make(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def tiny_multi_label_data(tmp_path_factory):
    """multi_label_raw in shards: 43 train pictures in two folds and 6 test pictures, of 3 labels; not to be written to."""
    import multi_label_raw
    from dataset_tools import build
    from pipeline.records import dataset

    folder = tmp_path_factory.mktemp("tiny_multi_label")
    multi_label_raw.write(folder / "raw")
    build.build("imet2019", str(folder / "raw"), str(folder / "records"), folds=2)
    return dataset.load(str(folder / "records"))
