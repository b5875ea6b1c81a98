"""Pictures as people have them, through the command: upright and in right colours in a shard, or set aside with a reason."""

import csv
import io
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from raw_data import assert_one_line, encode, pixels, read_records, run_command, stderr_lines, write

SCRIPT = "create_tfrecords.py"


def png(levels, colour_type, depth=16):
    """A PNG of 16-bit samples [height, width, bands], which Pillow does not write."""
    def chunk(name, content):
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    height, width = levels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff(levels, order):
    """An uncompressed RGB TIFF of 16-bit samples, of either byte order."""
    height, width = levels.shape[:2]
    entries = [(256, 3, 1, width), (257, 3, 1, height), (258, 3, 3, 8 + 2 + 12 * 9 + 4), (259, 3, 1, 1), (262, 3, 1, 2),
               (273, 4, 1, 256), (277, 3, 1, 3), (278, 3, 1, height), (279, 4, 1, levels.size * 2)]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(f"{order}H2x" if kind == 3 and count == 1 else f"{order}I", value)
        head += struct.pack(f"{order}HHI", tag, kind, count) + packed
    head += struct.pack(f"{order}I3H", 0, 16, 16, 16)
    return head.ljust(256, b"\0") + levels.astype(f"{order}u2").tobytes()


def broken(encoded, start=0.0, end=1.0, seed=0):
    """Some bytes in a part of a file are others."""
    content = bytearray(encoded)
    rng = np.random.default_rng(seed)
    for place in rng.integers(int(len(content) * start), int(len(content) * end), 6):
        content[place] ^= 0x55
    return bytes(content)


def taken_and_set_aside(tmp_path, files, *flags):
    """({name: RGB int [h, w, 3]}, {name: reason}, the command's outcome)."""
    for name, content in files.items():
        write(tmp_path / "raw" / "some" / name, content)
    write(tmp_path / "raw" / "other" / "good.jpg", encode(pixels(99)))
    done = run_command(SCRIPT, "--competition=folder", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/out", *flags)
    assert done.returncode == 0, done.stderr
    records = {one["image/source_id"].decode().split("/", 1)[1]: one["image/encoded"]
               for one in read_records(*(tmp_path / "out").glob("*.tfrecord-*"))}
    del records["good.jpg"]
    with open(tmp_path / "out" / "rejected.csv", encoding="utf-8", newline="") as file:
        rejected = {row["path"].split("/", 1)[1]: row["reason"] for row in csv.DictReader(file)}
    assert {*records, *rejected} == set(files) and len(records) + len(rejected) == len(files)
    decoded = {name: tf.io.decode_jpeg(one, channels=3).numpy().astype(int) for name, one in records.items()}
    return decoded, rejected, done


def test_sixteen_and_thirty_two_bits_are_never_black(tmp_path):
    gray, rgb = pixels(1)[..., 0], pixels(2)
    alpha = np.full((*rgb.shape[:2], 1), 65535)
    files, expected = {}, {}
    for name, factor in (("8", 1), ("10", 4), ("12", 16), ("14", 64), ("16", 257)):
        deep = gray.astype(np.uint16) * factor
        files |= {f"gray{name}.png": encode(Image.fromarray(deep), "PNG"),
                  f"gray{name}.tif": encode(Image.fromarray(deep), "TIFF", compression="tiff_lzw"),
                  f"gray{name}_big.tif": encode(Image.fromarray(deep.astype(">u2")), "TIFF"),
                  f"gray{name}_32.tif": encode(Image.fromarray(deep.astype(np.int32)), "TIFF"),
                  f"rgb{name}.png": png(rgb.astype(np.int64) * factor, 2),
                  f"rgb{name}_le.tif": tiff(rgb.astype(np.int64) * factor, "<"),
                  f"rgb{name}_be.tif": tiff(rgb.astype(np.int64) * factor, ">"),
                  f"rgba{name}.png": png(np.concatenate([rgb.astype(np.int64) * factor, alpha], -1), 6)}
    la = np.stack([gray, np.full_like(gray, 255)], -1).astype(np.int64)
    files |= {"gray_alpha16.png": png(la * 257, 4), "gray_alpha8.png": png(la * [1, 257], 4),
              "gray32.tif": encode(Image.fromarray(gray.astype(np.int32) << 16), "TIFF"),
              "below0.tif": encode(Image.fromarray(gray.astype(np.int32) - 100), "TIFF"),
              "float.tif": encode(Image.fromarray(gray.astype(np.float32)), "TIFF")}
    expected = {name: rgb if name.startswith("rgb") else np.stack([gray] * 3, -1) for name in files}
    decoded, rejected, _ = taken_and_set_aside(tmp_path, files)
    assert set(rejected) == {"gray_alpha8.png", "below0.tif", "float.tif"}
    assert "black" in rejected["gray_alpha8.png"] and "below 0" in rejected["below0.tif"]
    assert "float" in rejected["float.tif"]
    for name, found in decoded.items():
        assert np.abs(found - expected[name]).mean() < 3, name


def wrong_checksum(encoded):
    """A PNG whose pixels are not those that it says it holds, though they can be decoded."""
    at = encoded.index(b"IDAT")
    end = at + 4 + struct.unpack(">I", encoded[at - 4:at])[0]
    return encoded[:end] + b"none" + encoded[end + 4:]


@pytest.mark.parametrize("workers", [1, 2])
def test_damaged_pictures_are_set_aside_and_nothing_reaches_the_terminal(tmp_path, workers):
    exif = Image.Exif()
    exif[274] = 6
    whole = pixels(3, 200, 150)
    jpeg = encode(whole, quality=90)
    files = {
        "bits.png": broken(encode(whole, "PNG"), 0.2, 0.9),
        "turned_bits.png": broken(encode(whole, "PNG", exif=exif.tobytes()), 0.3),
        "avif.jpg": broken(encode(whole, "AVIF", quality=80), 0.5),
        "web.jpg": broken(encode(whole, "WEBP", lossless=True), 0.2),
        "lzw.tif": broken(encode(whole, "TIFF", compression="tiff_lzw"), 0.2, 0.8, seed=2),
        "deflate.tif": broken(encode(whole, "TIFF", compression="tiff_adobe_deflate"), 0.2, 0.8, seed=1),
        "cut.jpg": jpeg[:-40], "zeros.jpg": jpeg[:len(jpeg) // 2] + bytes(len(jpeg) // 2),
        "cut.gif": encode(whole, "GIF")[:-2000],
        "heic.jpg": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(500),
        "page.jpg": b"<html>404 Not Found</html>", "empty.png": b"",
        "half.jpg": jpeg[:len(jpeg) // 2] + b"\xff\xd9" + jpeg[len(jpeg) // 2:],
        "checksum.png": wrong_checksum(encode(whole, "PNG")), "trailing.jpg": jpeg[:-2] + b"\0\1\2" * 5 + jpeg[-2:]}
    if workers == 2:  # as many shards as that
        files["large.bmp"] = encode(np.zeros((800, 800, 3), np.uint8), "BMP")
    decoded, rejected, done = taken_and_set_aside(tmp_path, files, f"--workers={workers}", "--shard_mib=1")
    assert (decoded.pop("large.bmp", None) is None) == (workers == 1)
    assert len(list((tmp_path / "out").glob("*.tfrecord-*"))) >= workers
    assert set(decoded) == {"half.jpg", "trailing.jpg", "checksum.png"}
    for name, found in decoded.items():
        image = Image.open(io.BytesIO(files[name]))
        image.load()  # libjpeg's own view of what is damaged
        assert np.abs(found - np.asarray(image)).mean() < 3
    assert all(rejected.values()) and "HEIC" in rejected["heic.jpg"] and rejected["empty.png"] == "empty file"
    assert stderr_lines(done) == []
    told, = [line for line in done.stdout.splitlines() if "may be damaged" in line]
    assert told.startswith("3 pictures may be damaged") and "some/half.jpg (Corrupt JPEG data: premature end" in told
    assert "some/checksum.png (wrong checksum)" in told


def test_orientation_is_applied_once_whatever_tells_it(tmp_path):
    files = {}
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[274] = turn
        for kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "MPO"):
            options = {} if kind == "PNG" else {"quality": 95}
            files[f"{kind}{turn}.bin"] = encode(pixels(4), kind, exif=exif.tobytes(), **options)
        files[f"lzw{turn}.tif"] = encode(pixels(4), "TIFF", exif=exif, compression="tiff_lzw")
        xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="{turn}"/></x:xmpmeta>'.encode()
        files[f"xmp{turn}.jpg"] = encode(pixels(4), quality=95, xmp=xmp)
    decoded, rejected, _ = taken_and_set_aside(tmp_path, files)
    assert not rejected
    turned = {1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
              5: lambda a: a.transpose(1, 0, 2), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2),
              8: np.rot90}
    for name, found in decoded.items():
        expected = turned[int(name.split(".")[0][-1])](pixels(4))  # EXIF 2.3, table of tag 0x0112
        assert found.shape == expected.shape and np.abs(found - expected).mean() < 8, name


def test_too_large_pictures_name_the_flag(tmp_path):
    header = encode(Image.new("L", (8, 8)), "PNG")
    at = header.index(b"IHDR")
    ihdr = b"IHDR" + struct.pack(">II", 50_000, 50_000) + header[at + 12:at + 17]
    files = {"strip.png": encode(Image.new("L", (70_000, 2), 77), "PNG"),
             "bomb.png": header[:at] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + header[at + 21:]}
    decoded, rejected, _ = taken_and_set_aside(tmp_path / "as_it_is", files)
    assert not decoded and all("--max_side" in reason for reason in rejected.values())
    assert "178,956,970 pixels" in rejected["bomb.png"] and "70000 × 2" in rejected["strip.png"]
    decoded, rejected, _ = taken_and_set_aside(tmp_path / "smaller", files, "--max_side=100")
    assert set(rejected) == {"bomb.png"} and decoded["strip.png"].shape == (1, 100, 3)


def test_nothing_but_damaged_pictures_ends_in_one_line(tmp_path):
    write(tmp_path / "raw/cat/1.png", broken(encode(pixels(1), "PNG"), 0.3))
    done = run_command(SCRIPT, "--competition=folder", f"--data_dir={tmp_path}/raw", f"--out_dir={tmp_path}/out")
    assert_one_line(done, 3, "no usable picture", "cat/1.png")
