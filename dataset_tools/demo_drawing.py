"""Draws a butterfly: wings with a pattern, a body, a pose, in front of something green, brown or gray."""

import dataclasses

import numpy as np
from PIL import Image, ImageFilter

_PIXEL_EDGE = 0.03     # softness of an outline, in wing spans
_HUE_SPREAD = 0.03     # between individuals, of 1


@dataclasses.dataclass(frozen=True)
class Look:
    """What all butterflies of a species share; hues and saturation in [0, 1]."""

    hue: float
    second_hue: float
    pattern: str        # stripes, spots, margin, eyes, tips or veins
    slender: float      # length of the wings over their width
    saturation: float = 0.75


def draw(rng: np.random.Generator, look: Look) -> Image.Image:
    """One individual: an RGB picture whose short side has 90 to 110 pixels."""
    width, height = _sides(rng)
    u, v = _pose(rng, width, height)
    canvas = _background(rng, width, height)
    wings, colour = _wings(rng, look, u, v)
    shadow = _ellipse(u - 0.06, v + 0.1, 0.8, 0.6, 0.3)[..., None] * 0.35
    canvas = canvas * (1 - shadow)
    canvas = _blend(canvas, colour, wings)
    canvas = _blend(canvas, np.array([0.16, 0.12, 0.10]), _body(u, v))
    return _photograph(rng, canvas)


def _sides(rng: np.random.Generator) -> tuple[int, int]:
    """Width and height in pixels: 4:3 to 16:9, as photographs are, one in four of them upright."""
    short = int(rng.integers(90, 111))
    long = round(short * rng.uniform(4 / 3, 16 / 9))
    return (short, long) if rng.random() < 0.25 else (long, short)


def _pose(rng: np.random.Generator, width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The butterfly's own coordinates (across, along; wings reach about 1) of every pixel, float [height, width]."""
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    span = min(width, height) * rng.uniform(0.30, 0.46)
    x = (x - width * rng.uniform(0.42, 0.58)) / span
    y = (y - height * rng.uniform(0.42, 0.58)) / span
    angle = rng.normal(0.0, 0.5)
    if rng.random() < 0.5:
        x = -x
    u, v = np.cos(angle) * x + np.sin(angle) * y, np.sin(angle) * x - np.cos(angle) * y
    # Seen from the side: one axis is foreshortened and a little sheared.
    return (u + rng.normal(0.0, 0.12) * v) / rng.uniform(0.7, 1.0), v


def _ellipse(u: np.ndarray, v: np.ndarray, a: float, b: float, edge: float = _PIXEL_EDGE) -> np.ndarray:
    """1 inside, 0 outside, soft between."""
    return np.clip((1.0 - np.hypot(u / a, v / b)) * min(a, b) / edge + 0.5, 0.0, 1.0)


def _rotated(u: np.ndarray, v: np.ndarray, angle: float) -> tuple[np.ndarray, np.ndarray]:
    return np.cos(angle) * u + np.sin(angle) * v, np.cos(angle) * v - np.sin(angle) * u


def _hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """RGB in [0, 1]."""
    channel = (np.array([5.0, 3.0, 1.0]) + hue * 6.0) % 6.0
    return value - value * saturation * np.clip(np.minimum(channel, 4.0 - channel), 0.0, 1.0)


def _blend(canvas: np.ndarray, colour: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return canvas + (colour - canvas) * alpha[..., None]


def _wings(rng: np.random.Generator, look: Look, u: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(alpha [height, width], colour [height, width, 3]) of four wings, mirrored at the body."""
    side = np.abs(u)
    opening = rng.normal(0.0, 0.08)
    fore_u, fore_v = _rotated(side - 0.46, v - 0.26, 0.55 + opening)
    hind_u, hind_v = _rotated(side - 0.34, v + 0.34, -0.85 + opening)
    fore = _ellipse(fore_u, fore_v, 0.56 * look.slender**0.5, 0.31 / look.slender**0.5)
    hind = _ellipse(hind_u, hind_v, 0.42, 0.30)
    rim = np.minimum(np.hypot(fore_u / (0.56 * look.slender**0.5), fore_v / (0.31 / look.slender**0.5)),
                     np.hypot(hind_u / 0.42, hind_v / 0.30))  # 0 in a wing's middle, 1 at its edge
    saturation = np.clip(look.saturation + rng.normal(0.0, 0.10), 0.05, 1.0)
    first = _hsv((look.hue + rng.normal(0.0, _HUE_SPREAD)) % 1.0, saturation, rng.uniform(0.65, 1.0))
    second = _hsv((look.second_hue + rng.normal(0.0, _HUE_SPREAD)) % 1.0, rng.uniform(0.7, 0.95), rng.uniform(0.7, 1.0))
    colour = np.broadcast_to(first, (*u.shape, 3)) * (1.05 - 0.25 * rim[..., None])
    colour = _PATTERNS[look.pattern](rng, colour, second, side, v, rim)
    return np.maximum(fore, hind), colour


_DARK = np.array([0.10, 0.07, 0.06])


def _wave(phase: np.ndarray, sharp: float = 3.0) -> np.ndarray:
    return np.clip(np.sin(phase) * sharp, 0.0, 1.0)


def _stripes(rng, colour, second, side, v, rim):
    reach = np.hypot(side, v * 0.8)
    colour = _blend(colour, _DARK, _wave(reach * rng.uniform(19, 23) + rng.uniform(0, 1.5)))
    return _blend(colour, second, _wave((rim - 0.8) * 12, 2.0) * 0.5)


def _spots(rng, colour, second, side, v, rim):
    colour = _blend(colour, _DARK, np.clip((rim - 0.86) * 9, 0, 1))
    step = rng.uniform(0.19, 0.23)
    offset = rng.uniform(0, step)
    row = np.floor((v + offset) / step)
    du = (side + 0.5 * step * (row % 2)) % step - step / 2
    dv = (v + offset) % step - step / 2
    return _blend(colour, second * 0.25, _ellipse(du, dv, step * 0.30, step * 0.30))


def _margin(rng, colour, second, side, v, rim):
    start = rng.uniform(0.62, 0.72)
    colour = _blend(colour, second, np.clip((rim - start + 0.12) * 12, 0, 1) * 0.6)
    return _blend(colour, _DARK, np.clip((rim - start) * 10, 0, 1))


def _eyes(rng, colour, second, side, v, rim):
    size = rng.uniform(0.14, 0.19)
    for across, along in ((0.56, 0.34), (0.36, -0.38)):
        du, dv = side - across, v - along
        for scale, ring in ((1.0, _DARK), (0.75, second), (0.4, _DARK)):
            colour = _blend(colour, ring, _ellipse(du, dv, size * scale, size * scale))
    return colour


def _tips(rng, colour, second, side, v, rim):
    tip = np.clip((side * 0.8 + v * 0.6 - rng.uniform(0.58, 0.68)) * 9, 0, 1)
    colour = _blend(colour, second, tip)
    return _blend(colour, _DARK, np.clip((side * 0.8 + v * 0.6 - 0.85) * 9, 0, 1))


def _veins(rng, colour, second, side, v, rim):
    angle = np.arctan2(v, side + 0.05)
    fine = _wave(angle * rng.uniform(15, 18) + rng.uniform(0, 3), 4.0) * np.clip(np.hypot(side, v) * 3 - 0.4, 0, 1)
    colour = _blend(colour, _DARK, np.clip(fine - 0.45, 0, 1) * 1.6)
    return _blend(colour, _DARK, np.clip((rim - 0.92) * 12, 0, 1))


_PATTERNS = {"stripes": _stripes, "spots": _spots, "margin": _margin, "eyes": _eyes, "tips": _tips, "veins": _veins}


def _body(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    body = np.maximum(_ellipse(u, v + 0.08, 0.06, 0.48), _ellipse(u, v - 0.42, 0.07, 0.08))
    side = np.abs(u)
    antennae = np.clip(1.3 - np.abs(side - 0.05 - (v - 0.45) * 0.55) / 0.02, 0, 1) * ((v > 0.45) & (v < 0.9))
    return np.maximum(body, antennae)


def _noise(rng: np.random.Generator, width: int, height: int, cells: int) -> np.ndarray:
    """Smooth noise in [0, 1], [height, width]."""
    coarse = Image.fromarray((rng.random((cells, cells)) * 255).astype(np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC), np.float64) / 255.0


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Leaves, soil, sky or blossoms out of focus; float [height, width, 3] in [0, 1]."""
    hue = rng.choice([0.28, 0.33, 0.10, 0.08, 0.55, 0.85]) + rng.normal(0, 0.03)
    near = _hsv(hue % 1.0, rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.8))
    far = _hsv((hue + rng.normal(0, 0.06)) % 1.0, rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.6))
    canvas = far + (near - far) * _noise(rng, width, height, int(rng.integers(3, 8)))[..., None]
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    for _ in range(rng.integers(2, 7)):  # leaves and petals
        du, dv = _rotated(x - rng.uniform(0, width), y - rng.uniform(0, height), rng.uniform(0, np.pi))
        leaf = _ellipse(du, dv, rng.uniform(12, 50), rng.uniform(4, 14), edge=2.0)
        colour = _hsv(rng.random(), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.9))
        canvas = _blend(canvas, colour, leaf * rng.uniform(0.3, 0.8))
    return canvas


def _photograph(rng: np.random.Generator, canvas: np.ndarray) -> Image.Image:
    """Light, sensor noise and a little blur."""
    light = rng.uniform(0.75, 1.2) * (1 + rng.normal(0, 0.04, size=3))
    canvas = canvas * light + rng.normal(0, 0.025, size=canvas.shape)
    image = Image.fromarray((np.clip(canvas, 0, 1) * 255).round().astype(np.uint8))
    return image.filter(ImageFilter.GaussianBlur(rng.uniform(0.0, 0.9)))
