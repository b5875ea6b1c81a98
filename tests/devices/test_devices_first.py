"""Whole commands on two hosts and on eight virtual replicas, with what computes before the first training step.

Both want their devices made before anything is computed: the network in which a stage's layers are looked up, records
that are adopted. A graph is traced for each replica, which takes long: networks are tiny, most without BatchNorm, and most
runs don't validate.
"""

import json

import pytest

from conftest import ROOT
from raw_data import assert_one_line_mistake, run_command
import solution_records
import two_hosts

CONFIGS = ROOT / "configs"
ON_TWO_HOSTS, ON_REPLICAS = "two_hosts", "virtual_replicas"
ON_BOTH = [ON_TWO_HOSTS, ON_REPLICAS]

# The sixth place's last stage by its own flags, on a tiny network.
SOLUTION = ("--num_training_instances=16", "--num_validation_instances=6", "--num_classes=3", "--model_name=efficientnet-b0",
            "--model=kecam/EfficientNetV2Tiny", "--input_size=32", "--input_size_stage3=32", "--epochs_stage1=0",
            "--epochs_stage2=0", "--epochs_stage3=1", "--unfreeze_layers=6", "--base_model_weights=none", "--batch_size=8",
            "--use_coordinates_inputs", "--max_steps=1")


def train(devices, *flags):
    """Runs the command to its end; returns what it logged, of two hosts the first."""
    if devices == ON_TWO_HOSTS:
        told = two_hosts.train(*flags)
        assert all("MultiWorkerMirroredStrategy: 2 replica(s) on CPU, 2 host(s)" in one for one in told)
        return told[0]
    done = run_command("multi_stage_train.py", *flags, "--virtual_replicas=8")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "MirroredStrategy: 8 replica(s) on CPU, 1 host(s)" in done.stderr
    return done.stderr


def steps_done(model_dir):
    """Steps of the finished stages, by their folders."""
    return {path.parent.name: json.loads(path.read_text())["steps"] for path in model_dir.glob("stage_*/DONE")}


def write_records(folder):
    """Shards of the sixth place's kind in two files a split; the flags that name them."""
    for split, count in (("train", 16), ("val", 6), ("public_test", 5)):
        solution_records.write(folder, split, count)
    return f"--training_files={folder}/inat_train.record-*", f"--validation_files={folder}/inat_val.record-*"


def test_two_hosts_train_by_the_sixth_places_own_flags(tmp_path):
    """One of them adopts the records."""
    files = write_records(tmp_path / "records")
    train(ON_TWO_HOSTS, *files, *SOLUTION, f"--model_dir={tmp_path}/m")
    assert steps_done(tmp_path / "m") == {"stage_1_fixres": 1}
    assert sorted(path.name for path in (tmp_path / "m" / "records").iterdir()) == [
        "dataset.json", "examples.csv", "rejected.csv"]


@pytest.mark.slow
def test_replicas_train_and_predict_by_the_sixth_places_own_flags(tmp_path):
    training_files, _ = write_records(tmp_path / "records")
    # Without BatchNorm, which eight replicas trace for two minutes.
    train(ON_REPLICAS, training_files, *SOLUTION, "--model=kecam/BeitTiny", f"--model_dir={tmp_path}/m")
    assert steps_done(tmp_path / "m") == {"stage_1_fixres": 1}
    # One shard, which is read in the command's own process: after that no devices could be made.
    done = run_command("predict.py", f"--test_files={tmp_path}/records/inat_public_test.record-00000-*",
                       f"--ckpt_dir={tmp_path}/m", "--batch_size=8", "--virtual_replicas=8",
                       f"--submission_file_path={tmp_path}/submission.csv")
    assert done.returncode == 0, done.stderr[-3000:]
    rows = (tmp_path / "submission.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["0", "2", "4"]


def test_a_dry_run_on_replicas_adopts_records_and_looks_layers_up(tmp_path):
    """A single shard is read in the command's own process."""
    write_records(tmp_path / "records")
    one = f"--training_files={tmp_path}/records/inat_train.record-00000-*"
    done = run_command("multi_stage_train.py", one, *SOLUTION, "--num_training_instances=8", f"--model_dir={tmp_path}/m",
                       "--dry_run", "--virtual_replicas=8")
    assert done.returncode == 0, done.stderr
    told = [line.split() for line in done.stdout.splitlines()]
    assert ["fixres", "last:6", "32"] in [line[:3] for line in told] and ["classes:", "3,"] in [line[:2] for line in told]
    assert "records: 8 examples to train on" in done.stdout and "MirroredStrategy: 8 replica(s) on CPU" in done.stdout
    assert (tmp_path / "m" / "records" / "dataset.json").exists() and not steps_done(tmp_path / "m")


@pytest.mark.parametrize("devices", [pytest.param(ON_TWO_HOSTS, marks=pytest.mark.slow), ON_REPLICAS])
def test_a_rate_for_each_layer_group_and_decay_by_blocks(devices, tiny_multi_label_data, tmp_path):
    """iMet 2019's stage, whose three groups here are divided by BEiT's last block and the head."""
    train(devices, f"--flagfile={CONFIGS}/imet2019/master_seresnext50.flags", "--fold=",
          f"--data_dir={tiny_multi_label_data.directory}", f"--model_dir={tmp_path}/m", "--model=kecam/BeitTiny",
          "--weights=none", "--batch_size=8", "--max_steps=1", "--monitor=val_loss",
          "--stage=name=head,epochs=0,size=32,lr=1", "--stage=name=all,epochs=1,size=32,"
          "lr=1e-5:8e-5:5e-4,groups=block1_attn_ln:head,layer_decay=0.8,weight_decay=0.05,mixup=0.2,clip_norm=10")
    assert steps_done(tmp_path / "m") == {"stage_1_all": 1}
    stage, = json.loads((tmp_path / "m" / "run.json").read_text())["same"]["stages"].values()
    assert (stage["lower_lrs"], stage["layer_decay"], stage["loss"]) == ([1e-5, 8e-5], 0.8, "focal")


@pytest.mark.slow
@pytest.mark.parametrize("devices", ON_BOTH)
def test_the_sixth_places_recipe(devices, tiny_data, tmp_path):
    train(devices, f"--flagfile={CONFIGS}/inat2021/efficientnet_b3.flags", f"--data_dir={tiny_data.directory}",
          f"--model_dir={tmp_path}/m", "--model=kecam/BeitTiny", "--weights=none", "--batch_size=8", "--max_steps=1",
          "--stage=name=all,epochs=0,size=32,lr=0.1", "--train_split=train+val",
          "--stage=name=fixres,epochs=2,size=32,lr=0.008,train=last:6,augment=eval,randaugment=")
    assert steps_done(tmp_path / "m") == {"stage_1_fixres": 1}


@pytest.mark.slow
@pytest.mark.parametrize("devices", ON_BOTH)
def test_the_demos_stages(devices, tiny_data, tmp_path):
    train(devices, f"--flagfile={CONFIGS}/demo.flags", f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m",
          "--model=kecam/BeitTiny", "--batch_size=8", "--max_steps=1", "--train_split=train+val")
    assert steps_done(tmp_path / "m") == {"stage_1_all": 1, "stage_2_fixres": 1}


# Mistakes of several hosts

def ends_of(done):
    """The last line of each host, both of which ended with a mistake told in one line."""
    assert [one.returncode for one in done] == [2, 2] and not any("Traceback" in one.stderr for one in done)
    return [one.stderr.splitlines()[-1] for one in done]


def test_what_one_host_meets_in_adopting_ends_the_other(tmp_path):
    files = write_records(tmp_path / "records")
    shard = tmp_path / "records" / "inat_train.record-00001-of-00002"
    shard.write_bytes(shard.read_bytes()[:-3])
    first, second = ends_of(two_hosts.run(*files, *SOLUTION, f"--model_dir={tmp_path}/m", timeout=120))
    assert f"{shard} is truncated" in first and "the first host has ended with an error" in second


def test_both_hosts_tell_of_a_layer_that_is_not_there(tiny_data, tmp_path):
    told = ends_of(two_hosts.run(f"--data_dir={tiny_data.directory}", f"--model_dir={tmp_path}/m", "--batch_size=8",
                                 "--model=kecam/BeitTiny", "--stage=name=all,epochs=1,size=32,lr=0.1,train=from:nothing",
                                 timeout=120))
    assert all("the base has no layer 'nothing'" in one for one in told)
    assert not (tmp_path / "m").exists()


@pytest.mark.slow
def test_what_the_second_host_alone_meets_ends_the_first(tmp_path):
    files = write_records(tmp_path / "records")
    first, second = ends_of(two_hosts.run(*files, *SOLUTION, f"--model_dir={tmp_path}/m", timeout=120,
                                          second=("--training_files=/nowhere/train*",)))
    assert "another host has ended" in first and "no file matches /nowhere/train*" in second


@pytest.mark.parametrize("script, flags, words", [
    ("multi_stage_train.py", ("--model=kecam/BeitTiny", "--stage=name=all,epochs=1,size=32,lr=0.1", "--fold=all"), "--fold"),
    ("multi_stage_train.py", ("--model=kecam/BeitTiny", "--stage=name=all,epochs=1,size=32,lr=0.1", "--fold=0"), "--fold"),
    ("predict.py", (), "predict.py"), ("localize.py", (), "localize.py"),
    ("train_geo_prior.py", ("--competition=inat2021",), "train_geo_prior.py"),
])
def test_what_works_on_one_host_waits_for_no_other(script, flags, words, monkeypatch, tmp_path):
    monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": {"worker": ["127.0.0.1:1", "127.0.0.1:2"]},
                                                "task": {"type": "worker", "index": 0}}))
    done = run_command(script, f"--data_dir={tmp_path}/nothing", f"--model_dir={tmp_path}/m", *flags, timeout=60)
    assert_one_line_mistake(done, f"{words} works on one host", "TF_CONFIG")
