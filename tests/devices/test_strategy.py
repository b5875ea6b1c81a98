"""Which strategy is made of the flags and the environment, and what is told where it can't be made."""

import json
import re
import socket

import pytest

from pipeline.devices import hosts, strategy as strategies
from pipeline.errors import UserError
from pipeline.training import run_checks
from raw_data import assert_one_line_mistake, run_command
from training_runs import run, stage


@pytest.fixture(autouse=True)
def no_strategy_is_remembered():
    strategies._make.cache_clear()
    yield
    strategies._make.cache_clear()


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_without_flags_it_is_this_machine():
    strategy = strategies.make("none", [6, 8])
    assert strategy.num_replicas_in_sync == hosts.count(strategy) == 1 and hosts.is_chief(strategy)
    assert strategies.make("none", [7]) is strategy


def test_a_tpu_that_tensorflow_cannot_drive(tiny_data, tmp_path):
    """PyPI's TensorFlow, which runs the tests, has no TPU support."""
    done = run_command("multi_stage_train.py", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m",
                       "--model=kecam/EfficientNetV2Tiny", "--stage=name=all,epochs=1,size=32,lr=0.01", "--tpu=local")
    assert_one_line_mistake(done, "--tpu=local", "no TPU support", "PYTHON=python3")
    assert not (tmp_path / "m").exists()


def test_a_tpu_where_nobody_answers():
    port = closed_port()
    with pytest.raises(UserError, match=f"--tpu=grpc://127.0.0.1:{port}: no TPU answers there: UNAVAILABLE"):
        strategies.make(f"grpc://127.0.0.1:{port}", [8])


def test_a_server_that_is_no_tpu_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(strategies, "_STATUS_PATIENCE", 1)
    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(UserError, match="no TPU answers there: DEADLINE_EXCEEDED"):
            strategies.make(f"grpc://127.0.0.1:{server.getsockname()[1]}", [8])


@pytest.mark.parametrize("config, told", [
    ("{", "not of the form"),
    ('{"cluster": {"worker": ["a:1", "b:1"]}}', "'task'"),
    ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 2}}', "one of those"),
    ('{"cluster": {"worker": ["a:1", "b:1"], "ps": ["c:1"]}, "task": {"type": "ps", "index": 0}}', "a chief, alone"),
    ('{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "ps", "index": 0}}', "'ps'"),
    ('["a:1"]', "not of the form"),
])
def test_an_environment_that_names_no_cluster(config, told, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(UserError, match=f"^TF_CONFIG .*{told}"):
        strategies.make("none", [8])


def test_a_cluster_of_this_host_alone_is_none(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 0}}))
    assert hosts.count(strategies.make("none", [8])) == 1


def test_flags_that_exclude_each_other():
    with pytest.raises(UserError, match="exclude each other"):
        strategies.make("local", [8], virtual_replicas=2)


class Replicas:
    """As many as asked for, for what only counts them."""

    def __init__(self, count: int):
        self.num_replicas_in_sync, self.cluster_resolver = count, None


@pytest.mark.parametrize("replicas, changes, told", [
    (8, {"batch_size": 12}, "--batch_size=12 is not divisible by the 8 replica(s); make it a multiple of 8"),
    (4, {"batch_size": 12, "accumulate": 2}, "by the 4 replica(s) times --accumulate=2; make it a multiple of 8"),
    (4, {"batch_size": 16, "accumulate": 2}, "--sync_batch_norm on a TPU only"),
])
def test_replicas_and_batches(replicas, changes, told, tiny_data):
    with pytest.raises(UserError, match=re.escape(told)):
        run_checks.check_replicas(run(tiny_data, "m", stage(**changes), sync_batch_norm=True), Replicas(replicas))
    run_checks.check_replicas(run(tiny_data, "m", stage(batch_size=16)), Replicas(4))


def test_where_it_is_trained_is_no_part_of_what_is_trained(tiny_data):
    def identity(**changes):
        return run(tiny_data, "m", **changes).identity()

    assert identity(virtual_replicas=8, tpu="local") == identity()
    assert identity(sync_batch_norm=True) != identity()
