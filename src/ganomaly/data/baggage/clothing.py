"""Clothes, shoes and belts: the soft, layered ground below all other objects."""

import math
from collections.abc import Callable
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from ganomaly.data.baggage import materials as m
from ganomaly.data.baggage.canvas import Array, Brush, Outline, Points, closed, rectangle, smooth

Fabric = tuple[m.Material, float]
"""A cloth and the thickness of one folded layer in mm."""

_TEXELS = 512
_FABRICS: tuple[Fabric, ...] = ((m.COTTON, 9), (m.COTTON, 6), (m.WOOL, 16), (m.WOOL, 11), (m.DENIM, 5))


@cache
def _creases() -> Array:
    """Return a periodic texture of creases, float32 [512, 512], mean 0: sharp ridges between smooth hollows."""
    rng = np.random.default_rng(0)
    texture = np.zeros((_TEXELS, _TEXELS), np.float32)
    for sigma, weight in ((14.0, 1.0), (6.0, 0.45), (2.5, 0.2)):
        noise = gaussian_filter(rng.standard_normal(texture.shape, np.float32), sigma, mode="wrap")
        # the zero crossings of smooth noise wander like the folds of a cloth thrown down
        texture -= weight * np.sqrt(np.abs(noise) / noise.std())
    texture -= texture.mean()
    return texture


def folds(
    rng: np.random.Generator, layer: float, wavelength: float, depth: float
) -> Callable[[Array, Array], Array]:
    """Return the thickness of one layer of cloth with creases.

    Parameters
    ----------
    rng : numpy.random.Generator
        Where the creases run.
    layer : float
        Mean thickness in mm.
    wavelength : float
        Typical distance of two creases in mm.
    depth : float
        How strongly creases stand out, as a share of the thickness.
    """
    angle, stretch = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 1.0)
    # about 50 texels from ridge to ridge; stretched, for cloth folds along its warp
    along, across = np.float32(50 / wavelength * stretch), np.float32(50 / wavelength)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    start_x, start_y = rng.integers(0, _TEXELS, 2)
    far = np.float32(8 * _TEXELS)  # keeps what is cast to whole numbers positive

    def thickness(x: Array, y: Array) -> Array:
        column = ((cos * x + sin * y) * along + far).astype(np.int32) + start_x
        row = ((cos * y - sin * x) * across + far).astype(np.int32) + start_y
        crease = _creases()[row % _TEXELS, column % _TEXELS]
        thick: Array = np.maximum(
            np.float32(layer) * (1 + np.float32(depth) * crease), np.float32(0.1 * layer)
        )
        return thick

    return thickness


def blob(rng: np.random.Generator, width: float, height: float, roughness: float = 0.12) -> Points:
    """Return a random smooth outline that fills about width × height mm."""
    count = 11
    angle = np.linspace(0, 2 * math.pi, count, endpoint=False) + rng.normal(0, 0.1, count)
    radius = 1 + rng.normal(0, roughness, count)
    points = np.stack([width / 2 * radius * np.cos(angle), height / 2 * radius * np.sin(angle)], 1)
    return smooth(points, per_corner=6)


def stuffing(brush: Brush, rng: np.random.Generator, width: float, height: float) -> None:
    """Draw the soft ground of a packed bag: cloth of uneven depth from wall to wall."""
    material = m.COTTON if rng.random() < 0.6 else m.WOOL
    cloth = folds(rng, rng.uniform(14, 32), rng.uniform(90, 160), 0.9)

    def thickness(x: Array, y: Array) -> Array:
        to_wall = np.minimum(width / 2 - np.abs(x), height / 2 - np.abs(y))
        return cloth(x, y) * np.clip(to_wall / 45, 0, 1).astype(np.float32)

    brush.fill(material, thickness, rectangle(0, 0, width, height, 60))


def crumpled_garment(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a garment thrown in: a few irregular layers with creases, and a hem."""
    material, layer = _FABRICS[rng.integers(len(_FABRICS))]
    width, height = rng.uniform(170, 320), rng.uniform(130, 230)
    for _ in range(rng.integers(3, 6)):
        outline = blob(rng, width, height)
        patch = brush.moved(rng.normal(0, 18), rng.normal(0, 18), rng.uniform(0, 360))
        patch.fill(material, folds(rng, layer, rng.uniform(35, 80), rng.uniform(0.7, 1.3)), outline)
        if rng.random() < 0.4:
            patch.wire(material, 3 + layer / 4, closed(outline))
        width, height = width * rng.uniform(0.65, 0.98), height * rng.uniform(0.65, 0.98)


def folded_shirt(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a shirt folded to a rectangle: body, sleeves folded behind, collar, a row of buttons."""
    material, layer = (m.COTTON, 5.0) if rng.random() < 0.6 else (m.WOOL, 10.0)
    width, height = rng.uniform(200, 260), rng.uniform(260, 330)
    cloth = folds(rng, layer, 90, 0.5)
    brush.fill(material, cloth, rectangle(0, 0, width, height, 18))
    for side in (-1, 1):
        sleeve = brush.moved(side * width * 0.33, height * 0.05, side * rng.uniform(2, 9))
        sleeve.fill(material, folds(rng, layer, 60, 0.7), rectangle(0, 0, width * 0.3, height * 0.8, 12))
    fold = height * rng.uniform(0.05, 0.25)
    brush.fill(material, cloth, rectangle(0, fold, width * 0.98, height * 0.55, 10))
    if rng.random() < 0.6:
        top = -height / 2
        collar = [
            (-45, top + 8),
            (0, top + 30),
            (45, top + 8),
            (62, top + 34),
            (8, top + 52),
            (-8, top + 52),
            (-62, top + 34),
        ]
        brush.fill(material, 2 * layer, collar)
        brush.strap(material, 26, layer, [(0, top + 40), (0, height / 2 - 10)])
        buttons = [(rng.normal(0, 1.5), y) for y in np.arange(top + 55, height / 2 - 20, 58)]
        brush.dots(m.PLASTIC, 4, buttons, 5.5)


def jeans(brush: Brush, rng: np.random.Generator) -> None:
    """Draw folded jeans: doubled seams, brass zip and button, copper rivets."""
    width, height = rng.uniform(190, 230), rng.uniform(260, 320)
    brush.fill(m.DENIM, folds(rng, 7, 80, 0.5), rectangle(0, 0, width, height, 12))
    leg = rectangle(width * 0.2, height * 0.08, width * 0.55, height * 0.8, 8)
    brush.fill(m.DENIM, folds(rng, 4, 60, 0.6), leg)
    seams = [
        [(x * width, -height / 2), (x * width + rng.normal(0, 8), height / 2)] for x in (-0.44, -0.05, 0.42)
    ]
    brush.wire(m.DENIM, 6, *seams, [(-width / 2, -height * 0.4), (width / 2, -height * 0.4)])
    pocket = [(-width * 0.4, -height * 0.36), (-width * 0.12, -height * 0.36), (-width * 0.12, -height * 0.1)]
    pocket += [(-width * 0.26, -height * 0.03), (-width * 0.4, -height * 0.1), (-width * 0.4, -height * 0.36)]
    brush.wire(m.DENIM, 4, pocket)
    rivets = [(-0.4, -0.36), (-0.12, -0.36), (0.15, -0.36), (0.4, -0.34), (-0.4, -0.28)]
    brush.dots(m.COPPER, 1.6, [(x * width, y * height) for x, y in rivets], 4.5)
    brush.disc(m.BRASS, 3, width * 0.03, -height * 0.44, 8.5)
    zip_fastener(brush, [(width * 0.04, -height * 0.4), (width * 0.07, -height * 0.12)])


def zip_fastener(brush: Brush, path: Outline, *, metal: bool = True) -> None:
    """Draw a zip along a path: tape, a row of teeth and the slider."""
    brush.strap(m.NYLON, 22, 0.8, path)
    points = np.asarray(path, float)
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate([[0], np.cumsum(steps)])
    teeth = np.arange(3, along[-1], 6.0)
    at = np.stack([np.interp(teeth, along, points[:, 0]), np.interp(teeth, along, points[:, 1])], 1)
    material, thickness = (m.BRASS, 1.2) if metal else (m.PLASTIC, 4.0)
    brush.dots(material, thickness, at, 2.0)
    x, y = points[-1]
    brush.fill(m.ZINC_ALLOY, 3.0, rectangle(x, y, 10, 14, 3))
    brush.fill(m.ZINC_ALLOY, 1.6, rectangle(x + 4, y + 16, 7, 24, 3), holes=[rectangle(x + 4, y + 21, 3, 8)])


def rolled_socks(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a pair of socks rolled into a ball: a soft spiral."""
    a, b = rng.uniform(38, 50), rng.uniform(32, 42)
    turns = rng.uniform(2.5, 4)
    height = rng.uniform(38, 60)

    def thickness(x: Array, y: Array) -> Array:
        radius = np.hypot(x / a, y / b)
        spiral = np.sin(2 * math.pi * turns * radius + np.arctan2(y, x))
        return np.asarray(height * np.sqrt(np.maximum(1 - radius**2, 0)) * (1 + 0.22 * spiral), np.float32)

    brush.fill(m.COTTON, thickness, blob(rng, 2 * a, 2 * b, 0.04))


def underwear(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a brassiere: foam cups, underwires of steel, hooks and strap adjusters."""
    brush = brush.moved(0, 25)
    for side in (-1, 1):
        cup = brush.moved(side * 68, 0)
        angle = np.linspace(0.1, math.pi - 0.1, 12)
        arc = np.stack([60 * np.cos(angle), 55 * np.sin(angle)], 1)
        cup.fill(
            m.COTTON,
            9,
            smooth([(-58, 0), (-30, -45), (0, -55), (40, -30), (60, 5), (35, 42), (0, 55), (-40, 40)]),
        )
        cup.wire(m.STEEL, 2.2, arc)
        cup.wire(m.NYLON, 6, [(20 * side, -50), (35 * side, -110)])
        cup.ring(m.ZINC_ALLOY, 1.5, 30 * side, -92, 8, 2.5)


def belt(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a rolled-up leather belt seen along its width: a dark spiral that ends in a metal buckle."""
    turns, first, gap = rng.uniform(2.2, 3.6), rng.uniform(16, 26), rng.uniform(6.5, 10)
    width = rng.uniform(28, 38)
    angle = np.linspace(0, 2 * math.pi * turns, 60)
    radius = first + gap * angle / (2 * math.pi) + 1.5 * np.sin(2.3 * angle + rng.uniform(0, 6))
    spiral = np.stack([1.15 * radius * np.cos(angle), radius * np.sin(angle)], 1)
    brush.strap(m.LEATHER, 4.2, width * 0.75, spiral)
    end = brush.moved(spiral[-1, 0], spiral[-1, 1], math.degrees(angle[-1]) + 90)
    end.moved(22).tilted(rng.uniform(0, 55), about=0).fill(
        m.ZINC_ALLOY, 4.0, rectangle(0, 0, 50, width + 12, 8), holes=[rectangle(2, 0, 36, width, 5)]
    )
    end.wire(m.STEEL, 3.6, [(2, 0), (44, 1)])


_FOOT = [
    (-132, 2),
    (-128, -26),
    (-100, -35),
    (-50, -30),
    (0, -31),
    (60, -45),
    (105, -40),
    (134, -14),
    (134, 14),
]
_FOOT += [(108, 34), (60, 40), (0, 32), (-60, 31), (-105, 33), (-128, 24)]


def pair_of_shoes(brush: Brush, rng: np.random.Generator) -> None:
    """Draw two shoes of one kind, heel to toe."""
    kind = int(rng.integers(2**32))
    _shoe(brush.moved(0, -52), np.random.default_rng(kind))
    _shoe(brush.moved(rng.normal(0, 12), 52, 180 + rng.normal(0, 5)), np.random.default_rng(kind))


def _shoe(brush: Brush, rng: np.random.Generator) -> None:
    """Draw one shoe from above or below: treaded sole, heel, upper, eyelets, and often a steel shank."""
    size = rng.uniform(0.86, 1.08)
    foot = np.asarray(_FOOT, float) * (size, size * rng.uniform(0.92, 1.05))
    sole = smooth(foot, per_corner=4)
    tread = 2 * math.pi / rng.uniform(10, 18)
    sporty = rng.random() < 0.55
    bend = rng.uniform(0, 0.02)

    def profile(x: Array, y: Array) -> Array:
        bars = np.sin(tread * (x + bend * y**2)) > 0
        arch = 1 - 0.45 * np.exp(-(((x + 35) / 30) ** 2))
        return np.asarray((15 if sporty else 7) * arch * (1 + 0.35 * bars), np.float32)

    brush.fill(m.SOLE if sporty else m.RUBBER, profile, sole)
    brush.fill(m.RUBBER, 12, smooth(foot[[0, 1, 2, 13, 14]] * 0.94, per_corner=4))
    upper = m.NYLON if sporty else m.LEATHER
    # the upper stands on the rim of the sole, so it is seen edge-on there
    brush.strap(upper, 4, 26 if sporty else 40, closed(sole))
    brush.fill(upper, 4.5, smooth(foot[[4, 5, 6, 7, 8, 9, 10, 11]] * 0.96, per_corner=4))
    brush.fill(m.FOAM, 60, smooth(foot * 0.9, per_corner=3))
    lacing = np.arange(-5, 58, 12.0) * size
    brush.wire(
        m.COTTON, 5, *([(x, -13), (x + 12, 13)] for x in lacing), *([(x, 13), (x + 12, -13)] for x in lacing)
    )
    brush.dots(m.BRASS, 1.0, [(x, y) for x in lacing for y in (-15, 15)], 3.4)
    if not sporty:
        brush.fill(m.STEEL, 1.2, rectangle(-38 * size, 0, 105 * size, 13, 5))
        nails = [(-104 * size + 18 * math.cos(a), 18 * math.sin(a)) for a in np.arange(0, 6.2, 0.9)]
        brush.dots(m.STEEL, 9, nails, 1.8)


def towel(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a thick folded towel: a large soft block with layered edges."""
    width, height = rng.uniform(180, 280), rng.uniform(140, 220)
    for inset in (0, 7, 16):
        block = rectangle(rng.normal(0, 3), rng.normal(0, 3), width - inset, height - inset, 14)
        brush.fill(m.COTTON, folds(rng, 12, 22, 0.4), block)
