"""Copies of real JPEG and PNG bytes are found, other pictures are not, and near hashes agree with brute force."""

import io
import time

import numpy as np
import pytest
from PIL import Image

import raw_data
from dataset_tools import duplicates, fingerprints, hamming
from pipeline.pictures.bad import BadImage
from raw_data import encode, pixels


def drawing(seed, cells=12, side=160):
    """Smoothed random cells: real enough for a perceptual hash; the more cells the more detail."""
    coarse = np.random.default_rng(seed).integers(0, 256, (cells, cells, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def copies_of(encoded):
    """Name and bytes of what somebody might make of a picture."""
    image = Image.open(io.BytesIO(encoded)).convert("RGB")
    yield "metadata", encoded[:2] + b"\xff\xfe\x00\x08remark" + encoded[2:]
    yield "png", encode(image, "PNG")
    for quality in (40, 60, 80, 95):
        yield f"quality {quality}", encode(image, quality=quality)
    for scale in (0.3, 0.5, 0.75):
        smaller = image.resize([round(side * scale) for side in image.size], Image.Resampling.BILINEAR)
        yield f"scale {scale}", encode(smaller, quality=85)


def group(*encoded, **options):
    return duplicates.group([fingerprints.of_bytes(one) for one in encoded], **options).tolist()


@pytest.mark.parametrize("cells", [3, 6, 12, 24])
def test_copies_are_found_and_others_are_not(cells):
    originals = [encode(drawing(seed, cells), quality=92) for seed in range(6)]
    names, copies = zip(*copies_of(originals[0]))
    found = group(*originals, *copies)
    assert len(set(found[:6])) == 6
    assert {name: number == found[0] for name, number in zip(names, found[6:])} == dict.fromkeys(names, True)


def test_copies_of_sample_photographs_are_found_and_others_are_not():
    folder = raw_data.samples("turtle_mini") / "images"
    originals = [path.read_bytes() for path in sorted(folder.iterdir())[:40]]
    prints = [fingerprints.of_bytes(one) for one in originals]
    assert len(set(duplicates.group(prints).tolist())) == 40
    for original in originals[:12]:
        for name, copy in copies_of(original):
            found = duplicates.group([fingerprints.of_bytes(original), fingerprints.of_bytes(copy)])
            assert found[0] == found[1], name


def test_exact_only_finds_the_same_bytes_and_pixels_alone():
    original = encode(drawing(1))
    found = group(original, original, *(copy for _, copy in copies_of(original)), distance=duplicates.EXACT_ONLY)
    assert found[:4] == [0, 0, 0, 0]  # its metadata changed, as PNG
    assert len(set(found[4:])) == len(found[4:]) and 0 not in found[4:]


def test_upright_pixels_count():
    image = drawing(2)
    turned = image.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[274] = 6  # to be turned back by the viewer
    assert len(set(group(encode(image, "PNG"), encode(turned, "PNG", exif=exif), distance=-1))) == 1
    assert len(set(group(encode(image, "PNG"), encode(turned, "PNG"), distance=-1))) == 2


def test_blank_pictures_are_not_all_the_same():
    def blank(seed, noise):
        rng = np.random.default_rng(seed)
        levels = np.broadcast_to(rng.integers(0, 256, 3), (60, 80, 3)) + rng.normal(0, noise, (60, 80, 3))
        return encode(levels.clip(0, 255).astype(np.uint8))

    blanks = [blank(seed, noise) for seed in range(10) for noise in (0, 1)]
    assert len(set(group(*blanks))) == len(blanks)
    assert len(set(group(blanks[0], blanks[0]))) == 1


def test_colour_tells_pictures_of_the_same_shape_apart():
    gray = np.asarray(drawing(3).convert("L"))
    red, blue = (np.stack([gray if band == channel else gray // 3 for band in range(3)], axis=-1) for channel in (0, 2))
    assert len(set(group(encode(red), encode(blue)))) == 2


def test_copies_of_copies_and_many_copies():
    images = [encode(drawing(4), quality=quality) for quality in range(40, 96)]
    assert set(group(*images, *images)) == {0}


def test_pictures_that_are_none_stand_alone():
    one = fingerprints.of_bytes(encode(pixels(0)))
    assert len(set(duplicates.group([None, one, None, one]).tolist())) == 3
    assert duplicates.group([None, None]).tolist() == [0, 1]
    assert duplicates.group([]).tolist() == []
    with pytest.raises(BadImage):
        fingerprints.of_bytes(b"no picture")


@pytest.mark.parametrize("distance", [0, 1, 7, 24, 40])
def test_near_pairs_agree_with_brute_force(distance):
    rng = np.random.default_rng(distance)
    bits = rng.integers(0, 2, (300, 256), dtype=np.uint8)
    for row in range(0, 240, 2):  # neighbours that differ in 0 to 59 bits
        bits[row + 1] = bits[row]
        bits[row + 1, rng.choice(256, row // 4, replace=False)] ^= 1
    bits[:, :40] = bits[0, :40]  # what all have in common makes uneven buckets
    differing = (bits[:, np.newaxis] != bits[np.newaxis]).sum(axis=2)
    expected = np.argwhere(np.triu(differing <= distance, 1))
    assert len(expected) and np.array_equal(hamming.near_pairs(np.packbits(bits, axis=1), distance), expected)


def test_near_pairs_of_many():
    rng = np.random.default_rng(0)
    strings = rng.integers(0, 256, (30_000, 32), dtype=np.uint8)
    strings[-100:] = strings[:100]
    strings[-100:, 0] ^= 0x81
    start = time.perf_counter()
    assert len(hamming.near_pairs(strings, 24)) == 100
    assert time.perf_counter() - start < 10  # 1 s; all with all would be 450 million comparisons
