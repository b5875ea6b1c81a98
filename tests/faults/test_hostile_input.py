"""What strangers send: paths that climb out, headers that ask for gigabytes, files that would run code, names with markup."""

import csv
import json
import pickle
import re
import struct
import zipfile
import zlib

import h5py
import numpy as np
import pandas as pd
import pytest

from dataset_tools import build
from pipeline.answers import foreign_arrays, predictions
from pipeline.errors import UserError
from pipeline.models import weights
from pipeline.report import elements, page
import predicted_data
import raw_data
import tiny_records

MARKUP = '<script>alert("1")</script> & \'=1+1\''


class Ran(Exception):
    """Code of a file was run."""


class Exploit:
    """Runs code where it is unpickled."""

    def __reduce__(self):
        return exec, ("raise __import__('test_hostile_input').Ran",)


def huge_png(side: int = 50_000) -> bytes:
    """The header of side × side pixels, and next to none of them."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def huge_jpeg(side: int = 50_000) -> bytes:
    """A JPEG whose header says so many pixels."""
    content = bytearray(raw_data.encode(raw_data.pixels(0)))
    frame = content.index(b"\xff\xc0")
    content[frame + 5:frame + 9] = struct.pack(">HH", side, side)
    return bytes(content)


def test_paths_that_climb_out_and_headers_of_gigabytes(tmp_path):
    """Set aside, each with its reason; counts of one fault are one note."""
    raw = tiny_records.write_raw(tmp_path / "raw", train=12, val=4, test=3)
    (tmp_path / "secret.jpg").write_bytes(raw_data.encode(raw_data.pixels(0)))
    train = json.loads((raw / "train.json").read_text())
    wanted = ["../secret.jpg", str(tmp_path / "secret.jpg"), "train/../../secret.jpg", "train/../train/3.jpg", "a\x00b.jpg"]
    for image, path in zip(train["images"], wanted):
        image["file_name"] = path
    (raw / "train.json").write_text(json.dumps(train))
    (raw / "train/5.jpg").write_bytes(huge_png())
    (raw / "train/6.jpg").write_bytes(huge_jpeg())
    made = build.build("inat2021", str(raw), str(tmp_path / "out"))
    with open(tmp_path / "out/rejected.csv", newline="") as file:
        reasons = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert {reasons[path] for path in wanted[:3]} == {"outside the data folder"}
    assert "train/../train/3.jpg" not in reasons and reasons["a\\x00b.jpg"]
    assert all("more than 178,956,970 pixels" in reasons[f"train/{number}.jpg"] for number in (5, 6))
    assert made.rejected == 6 and b"outside the data folder 3" in "; ".join(made.notes).encode()
    secret = (tmp_path / "secret.jpg").read_bytes()
    assert all(record["image/encoded"] != secret for record in raw_data.read_records(
        *(tmp_path / "out" / shard.file for shard in made.shards)))


@pytest.mark.parametrize("change", [{"file": "../other/train.tfrecord-00000-of-00001"}, {"records": -1}, {"bytes": "many"},
                                    {"compression": "XZ"}, {"set_aside": [10**9]}, {"fold": 3}, {"first_row": True}])
def test_manifests_that_lie(tmp_path, change):
    data = predicted_data.make_dataset(tmp_path / "r", [0, 1, 2])
    told = json.loads((tmp_path / "r/dataset.json").read_text())
    told["shards"][0].update(change)
    (tmp_path / "r/dataset.json").write_text(json.dumps(told))
    with pytest.raises(UserError, match="dataset.json is not a manifest"):
        predicted_data.datasets.load(data.directory)


def test_half_a_character_is_no_text(tmp_path):
    """JSON can escape it, and no file can be written with it; a whole pair of halves is a character."""
    raw = tiny_records.write_raw(tmp_path / "raw", train=6, val=3, test=2)
    train = json.loads((raw / "train.json").read_text())
    for name, code in (("moth \ud83e\udd8b", 0), ("moth \ud83e", 2)):
        train["categories"][0]["name"] = name
        (raw / "train.json").write_text(json.dumps(train))
        done = raw_data.run_command("create_tfrecords.py", "--competition=inat2021", f"--data_dir={raw}", f"--out_dir={tmp_path}/r{code}")
        assert done.returncode == code, done.stderr[-2000:]
    raw_data.assert_one_line_mistake(done, "train.json is not valid JSON")
    manifest = tmp_path / "r0/dataset.json"
    whole = manifest.read_bytes()
    for half in (b"\\ud83e", b"\xed\xa0\xbe"):
        manifest.write_bytes(whole.replace("\U0001f98b".encode(), half))
        with pytest.raises(UserError, match="dataset.json is not valid JSON"):
            predicted_data.datasets.load(str(tmp_path / "r0"))


def test_arrays_are_never_unpickled(tmp_path):
    """As predictions of another program, and as our own."""
    exploit = np.array([[Exploit()]], dtype=object)
    np.save(tmp_path / "a.npy", exploit, allow_pickle=True)
    np.savez(tmp_path / "b.npz", probabilities=np.ones((1, 1)), ids=exploit[0])
    (tmp_path / "c.npz").write_bytes(pickle.dumps(Exploit()))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("probabilities.npy", pickle.dumps(Exploit()))
        archive.writestr("../../ids.npy", b"x")
    for name in "a.npy", "b.npz", "c.npz", "d.npz":
        with pytest.raises(UserError, match=name):
            foreign_arrays.Arrays(str(tmp_path / name))
    assert not (tmp_path.parent.parent / "ids.npy").exists()
    data = predicted_data.make_dataset(tmp_path / "r", [0])
    folder = predicted_data.write_predictions(tmp_path / "p", data, predicted_data.random_logs(1))
    for content in ((tmp_path / "a.npy").read_bytes(), pickle.dumps(Exploit()), b"\x93NUMPY\x01\x00\x10\x00{'descr': exit()}"):
        (tmp_path / "p/log_probabilities.npy").write_bytes(content)
        with pytest.raises(UserError, match="log_probabilities.npy is damaged"):
            predictions.Predictions(folder)


def test_weights_files_run_nothing(tmp_path):
    """Of a whole saved model with a Lambda layer only arrays are read, and one that lists what is not there is refused."""
    import tensorflow as tf

    model = tf.keras.Sequential([tf.keras.layers.Input([2]), tf.keras.layers.Dense(3, name="d"),
                                 tf.keras.layers.Lambda(lambda x: 1 / 0 if x is None else x)])
    model.save(str(tmp_path / "lambda.h5"))
    with h5py.File(tmp_path / "lambda.h5", "r+") as file:
        file.attrs["model_config"] = '{"class_name": "Lambda", "config": {"function": ["boom"]}}'
    assert weights.layer_names(str(tmp_path / "lambda.h5")) == {"d"}
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["secret"] = np.ones(3)
    for number, spoil in enumerate((lambda file: file.attrs.__setitem__("layer_names", [b"../x"]),
                                    lambda file: file["d"].attrs.__setitem__("weight_names", [b"not there"]),
                                    lambda file: file["d"].attrs.__setitem__("weight_names", 7),
                                    lambda file: file.__setitem__("d/text", "no number"),
                                    lambda file: file.__setitem__("d/text", h5py.ExternalLink(
                                        str(tmp_path / "other.h5"), "secret")))):
        path = str(tmp_path / f"{number}.h5")
        with h5py.File(path, "w") as file:
            file.attrs["layer_names"] = [b"d"]
            file.create_group("d").attrs["weight_names"] = [b"text"] if number > 2 else []
            spoil(file)
        with pytest.raises(UserError, match=path):
            weights.layer_names(path)


def test_names_with_markup_are_text(tmp_path):
    """In the report: tables, title and warnings."""
    frame = pd.DataFrame({"class": [MARKUP], "top1": [0.5]}, index=[MARKUP])
    shot = elements.Shot("data:,", MARKUP, [MARKUP])
    page.write(str(tmp_path / "report.html"), MARKUP, MARKUP, [elements.Section(MARKUP, [
        elements.Table(frame), elements.Table(frame, index=True), elements.Note(MARKUP), elements.Heading(MARKUP),
        elements.Cards([(MARKUP, MARKUP, MARKUP)]), elements.Figures([("", MARKUP)]), elements.Gallery([shot]),
        elements.Pairs([(MARKUP, elements.Gallery([shot]), elements.Gallery([]))]), elements.Folded(MARKUP, []),
        elements.PagedTable(frame, "names")])])
    written = (tmp_path / "report.html").read_text()
    harmless = written.replace('<script type="application/json" id="names">', "").replace("<script>// Tables", "")
    # title and split twice each, a heading and its link, …
    assert "<script" not in harmless and written.count("&lt;script&gt;") == 2 * 2 + 2 + 3 + 1 + 1 + 3 + 1 + 2 + 3 + 1 + 1
    told = re.search(r'id="names">(.*?)</script>', written, re.DOTALL)[1]
    assert json.loads(told) == {"columns": ["class", "top1"], "decimals": [False, True], "rows": [[MARKUP, 0.5]]}


def test_a_table_of_one_fault_many_times_is_one_line(tmp_path):
    raw = tiny_records.write_raw(tmp_path / "raw", train=12, val=4, test=3)
    for path in sorted((raw / "train").iterdir())[:9]:
        path.write_bytes(b"no picture")
    made = build.build("inat2021", str(raw), str(tmp_path / "out"))
    assert [note for note in made.notes if "set aside" in note] == ["set aside: not a picture 9"]
    assert "\n".join(made.notes).count("not a picture") == 1
