"""Pictures of every format that Pillow writes, by mode and orientation, damaged; and what Pillow makes of each of them.

The reference is written by itself: Pillow's first complete decode of a fresh object, turned by ImageOps.exif_transpose.
"""

import collections
import csv
import dataclasses
import functools
import io
import random
import shutil
import warnings
from pathlib import Path
from typing import Iterator, Optional

import numpy as np
from PIL import Image, ImageOps

from pipeline.pictures import remarks
from raw_data import read_records, run_command, stderr_lines

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "I;16B", "F",
         "La", "RGBa")
_SAVED_BY_NO_DECODER = ("BUFR", "GRIB", "HDF5", "WMF", "PDF", "PALM", "EPS")  # written as stubs, or for others to read
QUALITY = 95  # of what is encoded anew, 4:4:4


@dataclasses.dataclass(frozen=True)
class Whole:
    """One good file."""

    format: str
    mode: str
    orientation: int
    encoded: bytes


def picture(mode: str, width: int = 56, height: int = 40, seed: int = 0) -> Image.Image:
    """Smooth and not symmetrical in any way, in any mode of Pillow's."""
    rng = np.random.default_rng(seed)
    rgb = Image.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((width, height), Image.Resampling.BICUBIC)
    gray = np.asarray(rgb.convert("L"))
    if mode in ("I", "I;16", "I;16B"):
        deep = gray.astype(np.uint16) * 257
        return Image.fromarray(deep.astype({"I": np.int32, "I;16": "<u2", "I;16B": ">u2"}[mode]))
    if mode == "F":
        return Image.fromarray(gray.astype(np.float32))
    if mode in ("LA", "PA", "RGBA", "La", "RGBa"):
        rgba = rgb.convert("RGBA")
        rgba.putalpha(Image.fromarray(np.tile(np.linspace(40, 255, width), (height, 1)).astype(np.uint8)))
        return rgba.convert({"La": "LA", "PA": "P"}.get(mode, mode)).convert(mode)
    return rgb.convert(mode)


@functools.lru_cache(maxsize=None)
def whole_files(size: tuple[int, int] = (56, 40)) -> tuple[Whole, ...]:
    """Every format × mode × orientation that Pillow writes and opens again; the orientation is in what the format knows."""
    Image.init()
    found = []
    for kind in sorted(set(Image.SAVE) - set(_SAVED_BY_NO_DECODER)):
        for mode in MODES:
            for orientation in range(1, 9) if kind in ("JPEG", "PNG", "TIFF", "WEBP", "AVIF", "MPO", "JPEG2000") else (1,):
                for options in _options(kind):
                    encoded = _encode(kind, mode, orientation, options, size)
                    if encoded:
                        found.append(Whole(kind, mode, orientation, encoded))
    return tuple(found)


def _options(kind: str) -> tuple[dict, ...]:
    return {"JPEG": ({"quality": 90}, {"progressive": True}, {"quality": 80, "subsampling": 2, "restart_marker_rows": 1}),
            "TIFF": ({}, {"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}, {"compression": "packbits"},
                     {"compression": "jpeg"}),
            "WEBP": ({"quality": 90}, {"lossless": True}),
            "JPEG2000": ({}, {"quality_layers": [20], "irreversible": True}),
            "TGA": ({}, {"compression": "tga_rle"}), "BMP": ({},), "PCX": ({},)}.get(kind, ({},))


def _encode(kind: str, mode: str, orientation: int, options: dict, size: tuple[int, int]) -> Optional[bytes]:
    """None where Pillow does not write this, or does not take it for a picture when it is back."""
    if options.get("compression") == "jpeg" and mode not in ("L", "RGB"):  # libtiff's own heap breaks on mode 1
        return None
    options = dict(options)
    if orientation > 1:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif if kind == "TIFF" else exif.tobytes()
    buffer = io.BytesIO()
    try:
        image = picture(mode, *size)
        image.save(buffer, kind, **options)
        with Image.open(io.BytesIO(buffer.getvalue())) as back:
            back.load()
    except Exception:  # of all that may be asked for, what this version does not do
        return None
    return buffer.getvalue()


def damaged(rng: random.Random, encoded: bytes, other: bytes) -> bytes:
    """One damage of the kinds that disks, downloads and copies do."""
    broken, length = bytearray(encoded), len(encoded)
    kind, place = rng.randrange(8), rng.randrange(length)
    if kind == 0:
        broken[place] ^= 1 << rng.randrange(8)
    elif kind == 1:
        broken[place] = rng.choice((0, 255, rng.randrange(256)))
    elif kind == 2:
        for _ in range(rng.randrange(2, 12)):
            broken[rng.randrange(length)] = rng.randrange(256)
    elif kind == 3:
        del broken[place:]
    elif kind == 4:  # a download that stopped in a file of the right size
        broken[place:] = bytes(length - place)
    elif kind == 5:
        end = min(length, place + rng.randrange(1, 600))
        broken[place:end] = bytes(end - place) if rng.random() < 0.5 else rng.randbytes(end - place)
    elif kind == 6:
        del broken[place:place + rng.randrange(1, 200)]
    else:
        broken[place:] = other
    return bytes(broken)


def reference(encoded: bytes) -> Optional[Image.Image]:
    """Pillow's first complete decode, upright and RGB; None where there is none, or the pixels' range is not told."""
    with warnings.catch_warnings(), remarks.heard():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(encoded))
            image.load()
        except Exception:  # what Pillow raises on broken files has no bounds
            return None
        if image.width * image.height > 178_956_970:
            return None
        try:
            image = ImageOps.exif_transpose(image)
        except Exception:  # broken EXIF
            pass
        try:
            return _rgb(image)
        except (OSError, ValueError):  # of a mode that Pillow has no way from
            return None


def _rgb(image: Image.Image) -> Optional[Image.Image]:
    if image.mode == "F":
        return None
    if image.mode.startswith("I"):
        levels = np.asarray(image).astype(np.int64)
        if levels.min() < 0:
            return None
        bits = next(bits for bits in (8, 10, 12, 14, 16, 24, 32) if levels.max() < 2 ** bits)
        return Image.fromarray((levels // 2 ** (bits - 8)).astype(np.uint8)).convert("RGB")
    if image.mode == "La":
        image = image.convert("LA")
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image.convert("RGBA"))
        return white.convert("RGB")
    return image.convert("RGB")


@dataclasses.dataclass
class Outcome:
    """What became of a folder of pictures."""

    counts: collections.Counter
    wrong: list[str]


def compare(folder: Path, files: dict[str, bytes], workers: int = 2) -> Outcome:
    """Has create_tfrecords.py take the files (name → bytes) and says how what it did differs from the reference."""
    raw, out = folder / "raw", folder / "out"
    (raw / "all").mkdir(parents=True)
    for name, encoded in files.items():
        (raw / "all" / name).write_bytes(encoded)
    done = run_command("create_tfrecords.py", "--competition=folder", f"--data_dir={raw}", f"--out_dir={out}",
                       f"--workers={workers}", timeout=1800)
    if done.returncode:
        return Outcome(collections.Counter(), [f"exit code {done.returncode}: {done.stderr[-1500:]}"])
    counts, wrong = collections.Counter(), [f"on the terminal: {line}" for line in stderr_lines(done)]
    records = {one["image/source_id"].decode().split("/")[1]: one["image/encoded"]
               for one in read_records(*out.glob("*.tfrecord-*"))}
    with open(out / "rejected.csv", encoding="utf-8", newline="") as file:
        rejected = {row["path"].split("/")[1]: row["reason"] for row in csv.DictReader(file)}
    for name, encoded in files.items():
        what, complaint = _judge(encoded, reference(encoded), records.get(name), rejected.get(name))
        counts[what] += 1
        if complaint:
            wrong.append(f"{name}: {complaint}")
    return Outcome(counts, wrong)


def remove(folder: Path) -> None:
    """Thousands of files at a time would fill the disk."""
    shutil.rmtree(folder)


def _judge(encoded: bytes, expected: Optional[Image.Image], taken: Optional[bytes],
           reason: Optional[str]) -> tuple[str, str]:
    """(what became of it, what is wrong with that or '')."""
    if taken is None:
        if not reason:
            return "lost", "neither in a shard nor in rejected.csv with a reason"
        return "set aside", f"set aside ({reason}), and Pillow decodes it" if expected is not None else ""
    if reason:
        return "twice", "in a shard and in rejected.csv"
    if expected is None:
        return "taken", "in a shard, and Pillow does not decode it"
    import tensorflow as tf

    found = tf.io.decode_jpeg(taken, channels=3, dct_method="INTEGER_ACCURATE").numpy()
    if taken == encoded:
        wanted = np.asarray(expected)
    else:
        buffer = io.BytesIO()
        expected.save(buffer, "JPEG", quality=QUALITY, subsampling=0)
        wanted = np.asarray(Image.open(buffer))
    if found.shape != wanted.shape:
        return "taken", f"is {found.shape}, not {wanted.shape}"
    off = np.abs(found.astype(int) - wanted).max()
    what = "taken byte for byte" if taken == encoded else "taken"
    return what, f"differs by {off} levels" if off else ""


def fuzz(seed: int, count: int, size: tuple[int, int] = (56, 40)) -> Iterator[tuple[str, bytes]]:
    """`count` damaged files (name, bytes): formats by turns whatever their number of modes, the usual ones more often."""
    rng = random.Random(seed)
    by_format: dict[str, list[Whole]] = {}
    for one in whole_files(size):
        by_format.setdefault(one.format, []).append(one)
    plain = {kind: [one for one in files if one.mode == "RGB" and one.orientation == 1] or files
             for kind, files in by_format.items()}
    kinds = [*sorted(by_format), *["JPEG"] * 10, *["PNG"] * 3, *["TIFF", "WEBP", "AVIF"] * 2]
    for number in range(count):
        kind = kinds[number % len(kinds)]
        one = rng.choice((plain if rng.random() < 0.5 else by_format)[kind])
        other = rng.choice(by_format[rng.choice(kinds)])
        yield f"{one.format}_{one.mode.replace(';', '')}_{one.orientation}_{seed}_{number}.jpg", damaged(
            rng, one.encoded, other.encoded)
