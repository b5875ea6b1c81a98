"""Any picture becomes an upright RGB JPEG; expectations come from Pillow and numpy."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from dataset_tools.image_bytes import decode_jpeg, prepare
from pipeline.pictures.bad import BadImage
from raw_data import encode, pixels


def decoded(encoded: bytes) -> np.ndarray:
    return tf.io.decode_jpeg(encoded, channels=3).numpy().astype(int)


def assert_looks_like(encoded: bytes, expected: np.ndarray, tolerance: float = 3.0) -> None:
    found = decoded(encoded)
    assert found.shape == expected.shape
    assert np.abs(found - expected.astype(int)).mean() < tolerance
    assert Image.open(io.BytesIO(encoded)).mode == "RGB"


def exif_with_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"quality": 30, "subsampling": 2},
                                     {"exif": exif_with_orientation(1)}])
def test_upright_rgb_jpeg_passes_byte_for_byte(options):
    original = encode(pixels(1), **options)
    assert prepare(original) [:3] == (original, 40, 30)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_exif_rotation_is_applied(orientation):
    original = encode(pixels(2), quality=95, exif=exif_with_orientation(orientation))
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(original)))
    prepared = prepare(original)
    assert_looks_like(prepared.encoded, np.asarray(upright))
    assert (prepared.width, prepared.height) == upright.size
    assert 274 not in Image.open(io.BytesIO(prepared.encoded)).getexif()


def test_cmyk_jpeg():
    original = encode(Image.fromarray(pixels(3)).convert("CMYK"), quality=95)
    assert Image.open(io.BytesIO(original)).mode == "CMYK"
    assert_looks_like(prepare(original).encoded, np.asarray(Image.open(io.BytesIO(original)).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_grayscale(kind):
    gray = pixels(4)[:, :, 0]
    assert_looks_like(prepare(encode(gray, kind)).encoded, np.stack([gray] * 3, -1))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_other_formats(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert_looks_like(prepare(encode(pixels(5), kind, **options)).encoded, pixels(5))


def test_palette():
    image = Image.fromarray(pixels(6)).quantize(32)
    assert_looks_like(prepare(encode(image, "PNG")).encoded, np.asarray(image.convert("RGB")), 6.0)


def test_transparent_is_laid_over_white():
    rgb = pixels(7)
    alpha = np.tile(np.linspace(0, 255, 40), (30, 1)).astype(np.uint8)
    expected = rgb * (alpha[..., None] / 255) + 255 * (1 - alpha[..., None] / 255)
    assert_looks_like(prepare(encode(np.dstack([rgb, alpha]), "PNG")).encoded, expected)


def test_transparent_palette_entry_is_white():
    image = Image.fromarray(np.zeros((16, 16), np.uint8), "P")
    image.putpalette([200, 0, 0])
    assert_looks_like(prepare(encode(image, "PNG", transparency=0)).encoded, np.full((16, 16, 3), 255))


def test_sixteen_bit_gray_keeps_its_range():
    ramp = np.tile(np.linspace(0, 65535, 64), (8, 1)).astype(np.uint16)
    assert_looks_like(prepare(encode(Image.fromarray(ramp), "PNG")).encoded, np.stack([ramp // 257] * 3, -1))


def test_max_side_shrinks_with_lanczos_and_keeps_the_aspect():
    original = encode(pixels(8, 300, 200), quality=95)
    prepared = prepare(original, max_side=60)
    assert (prepared.width, prepared.height) == (60, 40)
    expected = Image.open(io.BytesIO(original)).resize((60, 40), Image.Resampling.LANCZOS)
    assert_looks_like(prepared.encoded, np.asarray(expected))
    assert prepare(original, max_side=300).encoded == original
    assert prepare(encode(pixels(8, 400, 1)), max_side=100)[1:3] == (100, 1)


@pytest.mark.parametrize("width, height, expected", [(300, 200, (90, 60)), (40, 31, (77, 60)), (60, 200, (60, 200))])
def test_short_side_shrinks_and_enlarges_with_lanczos(width, height, expected):
    original = encode(pixels(8, width, height), quality=95)
    prepared = prepare(original, short_side=60)
    assert (prepared.width, prepared.height) == expected
    image = Image.open(io.BytesIO(original))
    assert_looks_like(prepared.encoded, np.asarray(image.resize(expected, Image.Resampling.LANCZOS)))
    assert (prepared.encoded == original) == (image.size == expected)


def test_short_side_that_makes_a_picture_too_long():
    with pytest.raises(BadImage, match="2000 × 3 pixels are too long for a shorter side of 512"):
        prepare(encode(pixels(8, 2000, 3)), short_side=512)


def test_max_side_of_a_rotated_picture():
    original = encode(pixels(9, 200, 100), quality=95, exif=exif_with_orientation(6))
    assert prepare(original, max_side=50)[1:3] == (25, 50)
    assert prepare(original, short_side=50)[1:3] == (50, 100)


@pytest.mark.parametrize("content, reason", [
    (b"", "empty"), (b"<html>404 Not Found</html>", "not a picture"), (b"\xff\xd8\xff", "not a picture"),
])
def test_not_a_picture(content, reason):
    with pytest.raises(BadImage, match=reason):
        prepare(content)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_truncated_is_bad(kind, share):
    whole = encode(pixels(10, 200, 200), kind)
    with pytest.raises(BadImage, match="truncated|decoded"):
        prepare(whole[:int(len(whole) * share)])


def test_truncated_cmyk_is_bad():
    whole = encode(Image.fromarray(pixels(11, 200, 200)).convert("CMYK"))
    with pytest.raises(BadImage, match="truncated"):
        prepare(whole[:len(whole) // 2])


def test_decompression_bomb_is_bad_before_it_is_decoded():
    header = encode(Image.new("L", (8, 8)), "PNG")
    size = header.index(b"IHDR") + 4

    ihdr = b"IHDR" + struct.pack(">II", 30_000, 30_000) + header[size + 8:size + 13]
    bomb = header[:size - 4] + ihdr + struct.pack(">I", zlib.crc32(ihdr)) + header[size + 17:]
    with pytest.raises(BadImage, match="pixels"):
        prepare(bomb)


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40,
                                  b"Exif\0\0" + b"\x01" * 30])
def test_broken_exif_does_not_lose_the_picture(exif):
    original = encode(pixels(12), exif=exif)
    assert_looks_like(prepare(original).encoded, np.asarray(Image.open(io.BytesIO(original)).convert("RGB")))


def test_remarks_of_libjpeg_do_not_reach_stderr(capfd):
    odd = encode(pixels(1))
    odd = odd[:-2] + b"\x00\x01\x02" * 5 + odd[-2:]  # extraneous bytes before the end marker
    tf.io.decode_jpeg(odd)
    assert "Corrupt JPEG data" in capfd.readouterr().err
    assert decode_jpeg(odd).size == (40, 30) and "extraneous bytes" in decode_jpeg(odd).remark
    prepared = prepare(odd)
    assert "extraneous" in prepared.remark  # padding, or pixels that were decoded out of step: nothing tells
    assert_looks_like(prepared.encoded, np.asarray(Image.open(io.BytesIO(odd))))
    tf.io.decode_jpeg(prepared.encoded)  # in every epoch of a training
    os.write(2, b"still there")
    assert capfd.readouterr().err == "still there"


def test_remarks_on_what_stands_before_the_pixels_are_harmless():
    odd = encode(pixels(1))
    at = odd.index(b"\xff\xdb")
    prepared = prepare(odd[:at] + b"\x00\x01\x02" + odd[at:])
    assert not prepared.remark and prepared.encoded != odd
    assert_looks_like(prepared.encoded, np.asarray(Image.open(io.BytesIO(odd))))


def test_progressive_jpeg_without_its_last_scans_is_as_pillow_has_it_and_told():
    whole = encode(pixels(2, 160, 120), quality=90, progressive=True)
    last = whole.rindex(b"\xff\xda")
    second_to_last = whole.rindex(b"\xff\xda", 0, last)
    cut = whole[:whole.rindex(b"\xff\xda", 0, second_to_last)] + b"\xff\xd9"
    prepared = prepare(cut)
    image = Image.open(io.BytesIO(cut))
    image.load()
    assert prepared.remark == "incomplete progressive scans" and prepared.encoded != cut
    assert_looks_like(prepared.encoded, np.asarray(image), 1.5)
    assert not prepare(whole).remark and prepare(whole).encoded == whole


def test_decode_jpeg_wants_a_jpeg():
    assert decode_jpeg(encode(pixels(13))) == ((40, 30), "")
    assert decode_jpeg(encode(pixels(13), "PNG")) == (None, "")
