"""Knives: blades that thin out towards edge and point, with handles of wood, plastic or metal.

Local frame: the point is towards +x, the edge towards +y, the origin is where blade and handle meet.
"""

from collections.abc import Callable

import numpy as np

from ganomaly.data.baggage import materials as m
from ganomaly.data.baggage.canvas import Array, Brush, circle, rectangle, smooth

_HANDLES = (m.WOOD, m.PLASTIC, m.PLASTIC, m.ALUMINIUM, m.STEEL)


def kitchen_knife(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a kitchen knife, from paring to chef's: full or partial tang, bolster, riveted scales."""
    length = rng.uniform(85, 200)
    height = 14 + length * rng.uniform(0.10, 0.17)
    brush = _posed(brush, rng).moved((110 - length) / 2)
    spine = rng.uniform(1.8, 3.2)
    belly = [(0.97, 0.16), (0.85, 0.52), (0.65, 0.83), (0.4, 0.97), (0.0, 1.0)]
    blade = [(0, 0), (length * 0.7, 0.02 * height), (length, 0.1 * height)]
    blade += [(x * length, y * height) for x, y in belly]
    brush.fill(m.STEEL, _ground(spine, length, height), blade)
    grip = 70 + length * rng.uniform(0.18, 0.28)
    top, bottom = -1.0, 15 + length * 0.04
    tang = [
        (0, top + 2),
        (-grip + 5, top + 4),
        (-grip + 4, bottom - 1),
        (-grip * 0.5, bottom - 5),
        (0, bottom - 3),
    ]
    if rng.random() < 0.35:
        tang = [(0, 5), (-grip * 0.7, 7), (-grip * 0.7, 12), (0, 14)]
    brush.fill(m.STEEL, spine, tang)
    scale = smooth(
        [(0, top), (-grip * 0.5, top + 1), (-grip, top + 2), (-grip - 4, bottom), (-grip * 0.8, bottom + 3),
         (-grip * 0.5, bottom - 4), (0, bottom)], per_corner=3,
    )  # fmt: skip
    material = _HANDLES[rng.integers(3)]
    brush.fill(material, rng.uniform(14, 19), scale)
    brush.fill(m.STEEL, 11, rectangle(3, height * 0.32, 8, height * 0.62, 2))
    middle = (top + bottom) / 2
    brush.fill(m.BRASS, 14, *(circle(-grip * share, middle, 3, 12) for share in (0.15, 0.5, 0.85)))


def dagger(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a double-edged dagger: diamond section with a fuller, cross-guard, round grip, pommel."""
    length, half = rng.uniform(120, 190), rng.uniform(10, 16)
    brush = _posed(brush, rng).moved((100 - length) / 2)
    ridge = rng.uniform(4, 6)

    def diamond(x: Array, y: Array) -> Array:
        taper = np.clip(1.15 - x / length, 0.1, 1)
        section = ridge * (1 - 0.85 * np.abs(y) / half)
        fuller = 0.45 * ridge * ((np.abs(y) < half * 0.22) & (x < length * 0.65))
        return np.asarray(np.maximum(section * (0.4 + 0.6 * taper) - fuller, 0.3), np.float32)

    brush.fill(
        m.STEEL,
        diamond,
        [(0, -half), (length * 0.6, -half * 0.8), (length, 0), (length * 0.6, half * 0.8), (0, half)],
    )
    brush.fill(
        m.STEEL if rng.random() < 0.6 else m.BRASS, 9, rectangle(-3, 0, 8, half * rng.uniform(4, 5.5), 3)
    )
    grip = rng.uniform(85, 105)
    material = _HANDLES[rng.integers(len(_HANDLES))]
    hollow = 2.0 if material in (m.STEEL, m.ALUMINIUM) else None
    brush.turned(material, [(-grip, 9), (-grip * 0.5, 12), (-7, 9)], wall=hollow)
    brush.turned(m.STEEL, [(-grip, 3.5), (0, 4)])
    winding = [[(x, -10), (x + 2, 10)] for x in np.arange(-grip + 8, -10, 7.0)]
    if rng.random() < 0.5:
        brush.wire(m.BRASS, 1.4, *winding)
    brush.moved(-grip - 5).turned(m.STEEL, [(-9, 3), (-5, 11), (4, 11), (7, 6)])


def hunting_knife(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a hunting knife with a clip point, often with a sawn spine, a guard and a thick handle."""
    length, height = rng.uniform(110, 175), rng.uniform(26, 38)
    brush = _posed(brush, rng).moved((110 - length) / 2, -height / 2)
    spine = rng.uniform(3.5, 5)
    back = [(0.0, 0.0), (0.62, 0.0), (0.8, 0.2), (1.0, 0.28)]
    belly = [(0.93, 0.62), (0.8, 0.88), (0.6, 1.0), (0.08, 1.0), (0.06, 0.75), (0.0, 0.75)]
    blade = [(x * length, y * height) for x, y in back + belly]
    teeth: list[list[tuple[float, float]]] = []
    if rng.random() < 0.45:
        teeth = [
            [(x, -0.5), (x + 3, 4.5), (x + 6, -0.5)] for x in np.arange(0.12 * length, 0.55 * length, 8.0)
        ]
    brush.fill(m.STEEL, _ground(spine, length, height), blade, holes=teeth)
    brush.fill(
        m.BRASS if rng.random() < 0.5 else m.STEEL, 14, rectangle(-4, height * 0.42, 9, height * 1.25, 3)
    )
    grip = rng.uniform(100, 120)
    middle = height * 0.4
    handle = [(-8, middle - 12), (-grip * 0.4, middle - 15), (-grip, middle - 11), (-grip - 4, middle + 14)]
    handle += [(-grip * 0.75, middle + 11), (-grip * 0.45, middle + 16), (-8, middle + 11)]
    brush.fill(_HANDLES[rng.integers(3)], 24, smooth(handle, per_corner=3))
    brush.fill(m.STEEL, spine, rectangle(-grip * 0.45, middle, grip * 0.9, 11))
    brush.fill(
        m.STEEL, 5, rectangle(-grip + 1, middle, 9, 24, 3), holes=[circle(-grip + 1, middle + 5, 3, 10)]
    )


def folding_knife(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a pocket knife, open, half open or closed: blade, liners, scales, pivot, clip."""
    length = rng.uniform(70, 105)
    height = rng.uniform(20, 27)
    brush = _posed(brush, rng)
    grip = length * 1.22
    blade_angle = rng.choice([0.0, 0.0, rng.uniform(20, 110), 180.0])
    blade = brush.moved(0, 0, -blade_angle, mirrored=blade_angle == 180)
    point = [(-6, -height * 0.4), (length * 0.55, -height * 0.45), (length, 0.0)]
    point += [
        (length * 0.85, height * 0.32),
        (length * 0.6, height * 0.48),
        (8, height * 0.45),
        (-6, height * 0.3),
    ]
    blade.fill(m.STEEL, _ground(3.4, length, height, middle=True), point)
    half = height * 0.55
    body = smooth([(8, -half), (-grip * 0.5, -half * 1.05), (-grip, -half * 0.7), (-grip - 5, half * 0.4),
                   (-grip * 0.7, half * 1.1), (-grip * 0.3, half * 0.8), (8, half)], per_corner=3)  # fmt: skip
    brush.fill(m.STEEL, 2.4, body, holes=[circle(-grip * share, 0, 4, 12) for share in (0.35, 0.6, 0.82)])
    brush.fill((m.PLASTIC, m.WOOD, m.ALUMINIUM)[rng.integers(3)], 7, body)
    brush.strap(m.STEEL, 3.5, 4, body[len(body) // 8 : len(body) // 2])
    brush.fill(
        m.STEEL,
        12,
        circle(0, 0, 4.6, 14),
        circle(-grip * 0.94, 0, 2.5, 10),
        circle(-grip * 0.5, -half * 0.6, 2.5, 10),
    )
    brush.fill(m.STEEL, 1.2, rectangle(-grip * 0.72, -2, 52, 8, 3))


def _posed(brush: Brush, rng: np.random.Generator) -> Brush:
    """Tilt out of the image plane; mostly about the long axis, as a knife rolls on its flat."""
    about = rng.normal(0, 12)
    return brush.tilted(min(abs(rng.normal(0, 26)), 72.0), about)


def _ground(
    spine: float, length: float, height: float, *, middle: bool = False
) -> Callable[[Array, Array], Array]:
    """Return the thickness of a blade ground from its spine to its edge, thinner towards the point.

    Parameters
    ----------
    spine, length, height : float
        Thickness at the back, length and height of the blade, mm.
    middle : bool
        True if the blade is centred on y = 0 rather than hanging from it.
    """
    start = -height / 2 if middle else 0.0

    def thickness(x: Array, y: Array) -> Array:
        to_edge = np.clip((y - start) / height, 0, 1)
        bevel = np.minimum(1.0, 1.5 * (1.02 - to_edge))
        return np.asarray(spine * bevel * (1 - 0.45 * np.clip(x / length, 0, 1)), np.float32)

    return thickness
