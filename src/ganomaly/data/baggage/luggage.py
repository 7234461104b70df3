"""The bags themselves: shells, frames, zips, handles, wheels, straps, seen from above.

Local frame: the long side of the bag is along x, the origin is its middle.
"""

from dataclasses import dataclass

import numpy as np

from ganomaly.data.baggage import materials as m
from ganomaly.data.baggage.canvas import Brush, Outline, Points, circle, closed, rectangle, smooth
from ganomaly.data.baggage.clothing import zip_fastener


@dataclass(frozen=True)
class Room:
    """What of a bag can be packed.

    Attributes
    ----------
    width, height : float
        Inner measures along x and y, mm.
    lean : tuple of float
        How far the top of the bag appears shifted against its bottom, mm (x, y): the beam is a fan, not a column.
    """

    width: float
    height: float
    lean: tuple[float, float]


def trolley(brush: Brush, rng: np.random.Generator, width: float, height: float) -> Room:
    """Draw a cabin trolley: hard or soft shell, telescopic handle, wheels, zip, side handle, feet."""
    lean = (rng.uniform(-10, 10), rng.uniform(-16, 16))
    wheels_room, corner = 20.0, rng.uniform(28, 55)
    shell = rectangle(-wheels_room / 2, 0, width - wheels_room - abs(lean[0]), height - abs(lean[1]), corner)
    hard = rng.random() < 0.5
    _walls(brush, shell, lean, m.POLYCARBONATE if hard else m.NYLON, 30 if hard else 22)
    if hard:
        grooves = np.linspace(-0.38, 0.38, int(rng.integers(4, 9))) * height
        lines = [[(-width * 0.42, y), (width * 0.38, y)] for y in grooves]
        brush.strap(m.POLYCARBONATE, 7, 1.6, *lines)
    else:
        # piping over a spring-steel frame, and a zipped front pocket
        for share in (-0.5, 0.5):
            rim = _shifted(shell, lean, share)
            brush.wire(m.STEEL, 1.8, closed(rim))
        pocket = rectangle(0, height * 0.1, width * 0.72, height * 0.6, 24)
        brush.wire(m.NYLON, 4, closed(pocket))
        zip_fastener(
            brush, [(-width * 0.34, -height * 0.22), (width * 0.34, -height * 0.22)], metal=rng.random() < 0.3
        )
    _zip_around(brush, shell, rng)
    _telescopic_handle(brush, rng, width, height)
    for side in (-1, 1):
        _wheel(brush.moved(width / 2 - wheels_room - 4, side * (height / 2 - abs(lean[1]) / 2 - 32)), rng)
    _carrying_handle(brush.moved(0, -height / 2 + abs(lean[1]) / 2 + 4), rng)
    screws = [(x * width, y * height) for x in (-0.44, -0.1, 0.1, 0.4) for y in (-0.4, 0.4)]
    brush.dots(m.STEEL, 5, screws, 3)
    if hard:
        lock = brush.moved(rng.uniform(-0.2, 0.2) * width, height / 2 - abs(lean[1]) / 2 - 8)
        lock.fill(m.PLASTIC, 16, rectangle(0, 0, 62, 24, 5))
        lock.fill(m.ZINC_ALLOY, 4, rectangle(0, 0, 40, 14, 3), *(circle(x, 0, 5, 12) for x in (-10, 0, 10)))
    return Room(width - wheels_room - 36, height - 34, lean)


def backpack(brush: Brush, rng: np.random.Generator, width: float, height: float) -> Room:
    """Draw a backpack: padded back, shoulder straps with buckles, curved zips, front pocket, grab loop."""
    lean = (rng.uniform(-7, 7), rng.uniform(-9, 9))
    a, b = width / 2 - 8, height / 2 - 8
    outline = smooth(
        [(-a, -b * 0.55), (-a * 0.86, -b * 0.9), (-a * 0.3, -b * 0.96), (a * 0.5, -b), (a * 0.95, -b * 0.93), (a, 0),
         (a * 0.95, b * 0.93), (a * 0.5, b), (-a * 0.3, b * 0.96), (-a * 0.86, b * 0.9), (-a, b * 0.55)],
        per_corner=6,
    )  # fmt: skip
    _walls(brush, outline, lean, m.NYLON, 18)
    brush.fill(m.FOAM, 40, outline)
    for side in (-1, 1):
        y = side * height * 0.19
        strap = smooth(
            [
                (-a * 0.8, y * 0.5),
                (-a * 0.4, y * 1.3),
                (a * 0.1, y * 1.5),
                (a * 0.45, y * 1.6),
                (a * 0.9, y * 1.9),
            ],
            loop=False,
        )
        brush.strap(m.FOAM, 62, 60, strap[: len(strap) * 3 // 4])
        brush.strap(m.NYLON, 58, 1.6, strap[: len(strap) * 3 // 4])
        brush.strap(m.NYLON, 24, 2.6, strap)
        buckle = brush.moved(*strap[len(strap) * 3 // 4])
        buckle.fill(
            m.PLASTIC, 7, rectangle(0, 0, 34, 36, 5), holes=[rectangle(-6, 0, 6, 26), rectangle(6, 0, 6, 26)]
        )
    if rng.random() < 0.4:
        for y in (-height * 0.12, height * 0.12):
            brush.fill(m.ALUMINIUM, 3, rectangle(0, y, width * 0.78, 14, 3))
    pocket = rectangle(a * 0.35, 0, a * 1.0, b * 1.5, 40)
    brush.fill(m.NYLON, 1.4, pocket)
    brush.wire(m.NYLON, 5, closed(pocket))
    metal = rng.random() < 0.4
    half = len(outline) // 2
    zip_fastener(brush, outline[half + 6 :: 3] * (0.86, 0.88), metal=metal)
    zip_fastener(brush, outline[6:half:3] * (0.86, 0.88), metal=metal)
    zip_fastener(brush, [(-a * 0.14, -b * 0.6), (-a * 0.18, 0), (-a * 0.14, b * 0.6)], metal=metal)
    brush.strap(m.NYLON, 24, 4, smooth([(-a * 0.95, -24), (-a - 4, 0), (-a * 0.95, 24)], loop=False))
    brush.moved(a * 0.75, -b * 0.7).fill(
        m.PLASTIC, 6, rectangle(0, 0, 40, 30, 6), holes=[rectangle(6, 0, 8, 20)]
    )
    return Room(width - 56, height - 48, lean)


def duffel(brush: Brush, rng: np.random.Generator, width: float, height: float) -> Room:
    """Draw a duffel bag: soft outline, one long zip, two webbing handles, shoulder strap with metal hooks."""
    lean = (rng.uniform(-5, 5), rng.uniform(-10, 10))
    a, b = width / 2 - 10, height / 2 - 10
    bulge = rng.uniform(0.9, 1.0, 8)
    shape = np.array(
        [(-1, -0.55), (-0.85, -0.95), (0, -1), (0.85, -0.95), (1, -0.55), (1, 0.55), (0.85, 0.95), (0, 1)]
    )
    outline = smooth(
        np.concatenate([shape * bulge[:, None], [(-0.85, 0.93), (-0.98, 0.55)]]) * (a, b), per_corner=6
    )
    _walls(brush, outline, lean, m.NYLON if rng.random() < 0.6 else m.LEATHER, 14)
    zip_fastener(brush, [(-a * 0.85, rng.normal(0, 6)), (0, rng.normal(0, 8)), (a * 0.85, rng.normal(0, 6))])
    for side in (-1, 1):
        handle = [
            (-a * 0.36, side * b),
            (-a * 0.34, side * b * 0.3),
            (-a * 0.2, -side * b * rng.uniform(0, 0.3)),
        ]
        handle += [(a * 0.2, -side * b * 0.2), (a * 0.34, side * b * 0.3), (a * 0.36, side * b)]
        brush.strap(m.NYLON, 34, 3, smooth(handle, loop=False))
        for x in (-0.35, 0.35):
            ring = brush.moved(x * a, side * b * 0.62)
            ring.wire(m.STEEL, 3.5, rectangle(0, 0, 38, 16, 6))
    ends = [(-a * 0.97, 0), (a * 0.97, 0)]
    for x, y in ends:
        ring = brush.moved(x, y)
        ring.wire(m.ZINC_ALLOY, 4, circle(0, 0, 14), [(14, 0), (13.9, 3)])
        hook = smooth([(4, 14), (8, 30), (0, 38), (-9, 30), (-5, 18)], loop=False)
        ring.wire(m.ZINC_ALLOY, 5.5, hook)
        ring.fill(m.ZINC_ALLOY, 6, rectangle(2, 8, 12, 10, 3))
    shoulder = smooth(
        [(-a * 0.95, 30), (-a * 0.5, b * 0.5), (0, b * 0.66), (a * 0.45, b * 0.3), (a * 0.95, 30)],
        loop=False,
    )
    brush.strap(m.NYLON, 36, 2.4, shoulder)
    return Room(width - 60, height - 56, lean)


def briefcase(brush: Brush, rng: np.random.Generator, width: float, height: float) -> Room:
    """Draw a briefcase: leather over a metal frame, hinges, two locks, handle, document dividers."""
    lean = (rng.uniform(-6, 6), rng.uniform(-9, 9))
    shell = rectangle(0, 0, width - 14 - abs(lean[0]), height - 34 - abs(lean[1]), 16)
    _walls(brush, shell, lean, m.LEATHER, 26)
    if rng.random() < 0.6:
        rim = closed(shell)
        brush.strap(m.ALUMINIUM, 5, 9, rim)
    edge = (height - 34) / 2
    for x in (-0.3, 0.3):
        lock = brush.moved(x * width, -edge + 8)
        lock.fill(m.BRASS, 2.2, rectangle(0, 0, 46, 22, 3))
        lock.fill(m.STEEL, 4, rectangle(-6, 0, 22, 12, 2), circle(14, 0, 5, 12))
        brush.fill(m.STEEL, 2.6, rectangle(x * width, edge - 4, 58, 14, 2))
    _carrying_handle(brush.moved(0, -edge - 2), rng)
    brush.fill(m.LEATHER, 2.4, rectangle(0, height * 0.1, width * 0.86, height * 0.5, 5))
    brush.strap(m.LEATHER, 16, 3, [(-width * 0.4, -height * 0.2), (width * 0.4, -height * 0.2)])
    brush.dots(m.BRASS, 3, [(x * width, y * height) for x in (-0.46, 0.46) for y in (-0.36, 0.36)], 4)
    return Room(width - 44, height - 66, lean)


def _shifted(outline: Outline, lean: tuple[float, float], share: float) -> Points:
    return np.asarray(outline) + np.asarray(lean) * share


def _walls(
    brush: Brush, outline: Outline, lean: tuple[float, float], material: m.Material, depth: float
) -> None:
    """Draw lid and floor of a shell, and its sides, which the beam meets almost edge-on.

    Parameters
    ----------
    depth : float
        Way of the beam through the sides, mm.
    """
    steps = (-0.5, -0.17, 0.17, 0.5)
    for share in (steps[0], steps[-1]):
        lid = _shifted(outline, lean, share)
        brush.fill(material, 2.2, lid)
        brush.strap(material, 3.5, depth * 0.5, closed(lid))
    for share in steps[1:-1]:
        side = _shifted(outline, lean, share)
        brush.strap(material, 8, depth * 0.25, closed(side))


def _zip_around(brush: Brush, shell: Outline, rng: np.random.Generator) -> None:
    path = np.concatenate([shell, shell[:2]])
    start = int(rng.integers(len(shell)))
    # a zip leaves out the hinge side
    path = np.roll(path[:-1], -start, axis=0)[: len(path) * 4 // 5]
    zip_fastener(brush, np.asarray(path) * 0.985, metal=rng.random() < 0.35)


def _telescopic_handle(brush: Brush, rng: np.random.Generator, width: float, height: float) -> None:
    gauge = height * rng.uniform(0.17, 0.26)
    extension = width * rng.uniform(0.36, 0.42)
    steel = rng.random() < 0.35
    for side in (-1, 1):
        tube = brush.moved(0, side * gauge)
        tube.turned(
            m.STEEL if steel else m.ALUMINIUM,
            [(-width / 2 + 10, 8.5), (extension, 8.5)],
            wall=0.8 if steel else 1.5,
        )
        tube.turned(
            m.STEEL if steel else m.ALUMINIUM,
            [(-width / 2 + 6, 6.2), (extension * 0.7, 6.2)],
            wall=0.8 if steel else 1.3,
        )
        tube.strap(m.PLASTIC, 30, 2.5, [(-width / 2 + 16, 0), (extension, 0)])
        tube.wire(m.STEEL, 2.5, [(-width / 2 + 10, 0), (extension * 0.4, 0)])
        tube.fill(m.PLASTIC, 12, rectangle(extension, 0, 34, 34, 5))
        tube.dots(m.STEEL, 9, [(extension + 6, 9), (extension + 6, -9), (-width / 2 + 40, 0)], 3)
    grip = rectangle(-width / 2 + 12, 0, 24, 2 * gauge + 34, 10)
    brush.fill(m.PLASTIC, 12, grip)
    brush.fill(
        m.STEEL, 2, rectangle(-width / 2 + 12, 0, 10, 2 * gauge), rectangle(-width / 2 + 12, 0, 15, 26)
    )
    brush.fill(m.PLASTIC, 7, rectangle(-width / 2 + 36, 0, 26, 2 * gauge + 60, 8))


def _wheel(brush: Brush, rng: np.random.Generator) -> None:
    """Draw one wheel in its housing, rolling direction along x, with a steel axle."""
    radius = rng.uniform(21, 29)
    brush.fill(m.PLASTIC, 9, rectangle(-8, 0, 60, 56, 12))
    brush.fill(
        m.RUBBER,
        lambda x, y: 2 * np.sqrt(np.maximum(radius**2 - x**2, 0)),
        rectangle(0, 0, 2 * radius, 22, 4),
    )
    brush.fill(m.STEEL, 7, rectangle(0, 0, 7.5, 50, 2))
    brush.disc(m.STEEL, 3, 0, 0, 9)
    brush.dots(m.STEEL, 12, [(-26, -19), (-26, 19)], 3)


def _carrying_handle(brush: Brush, rng: np.random.Generator) -> None:
    half = rng.uniform(52, 70)
    arc = smooth([(-half, 4), (-half * 0.7, -10), (0, -14), (half * 0.7, -10), (half, 4)], loop=False)
    brush.strap(m.NYLON, 15, 7, arc)
    brush.strap(m.STEEL, 10, 0.8, arc)
    for x in (-half, half):
        brush.fill(m.PLASTIC, 8, rectangle(x, 6, 26, 20, 4))
        brush.dots(m.STEEL, 6, [(x - 7, 6), (x + 7, 6)], 2.6)
