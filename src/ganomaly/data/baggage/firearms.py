"""Firearms and their parts, each built of the pieces that make it recognisable in an X-ray.

Only outlines and thicknesses as a scanner sees them from the side, in round figures common to many makes.
Local frame: the muzzle points along +x, the grip along +y, the origin is above the trigger.
"""

import math

import numpy as np

from ganomaly.data.baggage import materials as m
from ganomaly.data.baggage.canvas import Brush, circle, closed, rectangle, smooth

_BORE_AXIS = -27.0  # mm


def pistol(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a self-loading pistol: frame, slide, barrel, recoil spring, trigger, magazine with rounds."""
    brush = _posed(brush, rng)
    muzzle = rng.uniform(62, 112)
    _pistol_frame(brush, rng, muzzle)
    _slide(brush, muzzle)
    _barrel(brush, rng, muzzle)
    _recoil_spring(brush, muzzle)
    if rng.random() < 0.85:
        _magazine(_in_grip(brush), rng)


def revolver(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a revolver: solid frame, fluted cylinder with chambers, barrel with lug, hammer, wooden grip."""
    brush = _posed(brush, rng)
    muzzle = rng.uniform(80, 150)
    frame = [(-58, -18), (-46, -40), (18, -42), (24, -36), (24, 2), (12, 4), (-14, 6), (-38, 8), (-62, 2)]
    window = rectangle(-14, -19, 45, 40, 3)
    brush.fill(m.STEEL, 14, frame, holes=[window])
    cylinder = brush.moved(-14, -19)
    cylinder.turned(m.STEEL, [(-21, 18), (-18, 19.5), (16, 19.5), (21, 17)], wall=4.0)
    loaded = rng.random() < 0.7
    for y in (-12.5, -6, 6, 12.5):
        chamber = cylinder.moved(0, y)
        chamber.turned(m.STEEL, [(-20, 6.2), (20, 6.2)], wall=1.4)
        if loaded:
            _cartridge(chamber.moved(-20), case=26, bullet=8, radius=4.6)
    cylinder.turned(m.STEEL, [(-24, 3), (26, 3)])
    barrel = brush.moved(22, -29)
    barrel.turned(m.STEEL, [(0, 9.5), (muzzle - 22, 8)], wall=4.5)
    barrel.fill(m.STEEL, 7, [(0, -12), (muzzle - 24, -11), (muzzle - 24, -6), (0, -6)])
    lug = brush.moved(22, -14)
    lug.turned(m.STEEL, [(0, 6), (min(45, muzzle - 30), 5.5)])
    barrel.fill(m.STEEL, 3, [(muzzle - 38, -11), (muzzle - 26, -19), (muzzle - 24, -11)])
    hammer = [(-46, -36), (-54, -47), (-70, -50), (-66, -43), (-60, -30), (-52, -20)]
    brush.fill(m.STEEL, 8, hammer)
    _trigger(brush.moved(-4, 2))
    guard = smooth([(16, 4), (20, 22), (4, 34), (-20, 32), (-32, 10)], loop=False)
    brush.strap(m.STEEL, 5, 9, guard)
    grip = smooth(
        [(-36, 4), (-34, 26), (-46, 58), (-58, 92), (-96, 84), (-84, 48), (-74, 16), (-62, -4)], per_corner=4
    )
    brush.strap(m.STEEL, 7, 10, closed(grip) * (0.96, 0.96) + (-2.5, 1))
    brush.fill(m.WOOD if rng.random() < 0.5 else m.RUBBER, 28, grip)
    brush.moved(-66, 40, 70).turned(m.STEEL, [(-16, 3.4), (20, 3.4)], wall=1.1)
    brush.disc(m.STEEL, 20, -62, 50, 3)


def barrel(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a pistol barrel alone: tube, chamber and locking lug."""
    muzzle = rng.uniform(80, 130)
    _barrel(_posed(brush, rng).moved(-muzzle / 2, -_BORE_AXIS), rng, muzzle)


def slide(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a slide alone, sometimes with barrel and spring left in it."""
    brush = _posed(brush, rng).moved(-15, 26)
    muzzle = rng.uniform(70, 112)
    _slide(brush, muzzle)
    if rng.random() < 0.5:
        _barrel(brush, rng, muzzle)
        _recoil_spring(brush, muzzle)


def frame(brush: Brush, rng: np.random.Generator) -> None:
    """Draw the frame alone: grip, trigger group, rails, sometimes the magazine."""
    brush = _posed(brush, rng).moved(0, -30)
    _pistol_frame(brush, rng, rng.uniform(70, 105))
    if rng.random() < 0.35:
        _magazine(_in_grip(brush), rng)


def magazine(brush: Brush, rng: np.random.Generator) -> None:
    """Draw one magazine, or two."""
    brush = _posed(brush, rng)
    _magazine(brush, rng)
    if rng.random() < 0.3:
        _magazine(brush.moved(rng.uniform(24, 40), rng.uniform(-15, 15), rng.normal(0, 20)), rng)


def cylinder(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a revolver cylinder seen along its axis: a thick disc with six chambers."""
    brush = brush.tilted(rng.uniform(0, 30), rng.uniform(0, 180))
    size, chambers = rng.uniform(19, 23), int(rng.integers(5, 7))
    bores = [
        (size * 0.62 * math.cos(a), size * 0.62 * math.sin(a))
        for a in np.arange(chambers) * 2 * math.pi / chambers
    ]
    brush.fill(
        m.STEEL,
        36,
        circle(0, 0, size),
        holes=[*(circle(x, y, 5.2, 16) for x, y in bores), circle(0, 0, 2.5, 10)],
    )
    brush.ring(m.STEEL, 6, 0, 0, 7, 3)
    if rng.random() < 0.4:
        for x, y in bores[: int(rng.integers(1, chambers + 1))]:
            brush.ring(m.BRASS, 26, x, y, 5, 0.8)
            brush.disc(m.LEAD, 6, x, y, 4)


def _posed(brush: Brush, rng: np.random.Generator) -> Brush:
    """Tilt out of the image plane a little: no object in a bag is quite flat."""
    return brush.tilted(abs(rng.normal(0, 16)), rng.uniform(0, 180))


def _in_grip(brush: Brush) -> Brush:
    return brush.moved(-35, 40, 16)


def _slide(brush: Brush, muzzle: float) -> None:
    top, bottom, rear = -40.0, -12.0, -78.0
    outline = [
        (rear, top + 2),
        (rear + 4, top),
        (muzzle - 6, top),
        (muzzle, top + 4),
        (muzzle, bottom),
        (rear, bottom),
    ]
    port = [(-14, top - 1), (28, top - 1), (28, top + 13), (-14, top + 13)]
    brush.fill(m.STEEL, 2.6, outline)  # far wall
    brush.fill(m.STEEL, 2.6, outline, holes=[port])  # near wall
    brush.fill(
        m.STEEL, 9, [(rear, top), (-14, top), (-14, bottom - 6), (rear + 22, bottom - 6), (rear, bottom)]
    )
    brush.fill(m.STEEL, 7, [(28, top), (muzzle, top), (muzzle, top + 5), (28, top + 5)])
    brush.fill(m.STEEL, 12, rectangle(muzzle - 3.5, -26, 7, 27))
    ridges = [rectangle(x, -26, 1.8, 25) for x in np.arange(rear + 6, rear + 32, 4.4)]
    brush.fill(m.STEEL, 2.0, *ridges)
    brush.fill(m.STEEL, 5, rectangle(muzzle - 10, top - 2.5, 5, 5), rectangle(rear + 11, top - 3, 9, 6))


def _barrel(brush: Brush, rng: np.random.Generator, muzzle: float) -> None:
    axis = brush.moved(0, _BORE_AXIS)
    axis.turned(m.STEEL, [(-14, 9.5), (14, 9.5), (16, 7.2), (muzzle - 8, 6.8), (muzzle + 2, 7.2)], wall=2.4)
    axis.fill(m.STEEL, 9, rectangle(0, -1, 28, 19), holes=[rectangle(0, 0, 30, 10)])
    axis.fill(m.STEEL, 8, [(-12, 9), (12, 9), (6, 19), (-4, 19)], holes=[circle(2, 14, 3, 12)])
    if rng.random() < 0.35:
        _cartridge(axis.moved(-13), case=19, bullet=9, radius=4.8)


def _recoil_spring(brush: Brush, muzzle: float) -> None:
    rod = brush.moved(0, -15.5)
    rod.turned(m.STEEL, [(10, 2.6), (muzzle - 3, 2.6)])
    x = np.arange(12, muzzle - 5, 1.0)
    rod.wire(m.STEEL, 1.3, np.stack([x, 5.2 * np.sin(x * 1.35)], 1))


def _pistol_frame(brush: Brush, rng: np.random.Generator, muzzle: float) -> None:
    material, panel = [(m.PLASTIC, 17.0), (m.STEEL, 4.5), (m.ALUMINIUM, 9.0)][rng.integers(3)]
    grip = [
        (8, -12),
        (6, 18),
        (-2, 40),
        (-16, 92),
        (-62, 100),
        (-58, 70),
        (-50, 38),
        (-58, 14),
        (-80, -4),
        (-78, -12),
    ]
    brush.fill(material, panel, grip)
    brush.fill(material, panel, [(6, -12), (muzzle - 8, -12), (muzzle - 8, -4), (52, 1), (6, 1)])
    edge = 20 if material is m.PLASTIC else 12
    brush.strap(material, 5, edge, [(6, 8), *grip[2:4], (-20, 94)], [(-76, -6), *grip[7:4:-1], (-60, 98)])
    guard = smooth([(4, 30), (22, 35), (44, 32), (50, 16), (50, 0)], loop=False)
    brush.strap(material, 6, 11 if material is m.PLASTIC else 8, guard)
    if material is not m.PLASTIC:
        brush.fill(
            m.WOOD if rng.random() < 0.5 else m.PLASTIC,
            12,
            [(-6, 26), (-22, 88), (-56, 94), (-46, 38), (-52, 16)],
        )
        brush.fill(m.STEEL, 9, circle(-28, 30, 4, 12), circle(-40, 82, 4, 12))
    # trigger group, rails and pins are steel in every make
    brush.fill(m.STEEL, 3.5, rectangle(-30, -10, 70, 4), rectangle(muzzle * 0.6, -10, 30, 4))
    brush.fill(m.STEEL, 6, [(-66, -10), (-46, -10), (-44, 8), (-52, 14), (-62, 0)])
    brush.fill(m.STEEL, 2, rectangle(-16, -3, 60, 5))
    brush.wire(m.STEEL, 2.2, [(-50, 12), (-52, 34), (-50, 60)])
    brush.dots(m.STEEL, 22, [(20, -4), (-52, -2), (2, 4)], 2.2)
    _trigger(brush.moved(18, 0))


def _trigger(brush: Brush) -> None:
    curve = smooth([(4, -8), (6, 6), (2, 16), (6, 27), (0, 24), (-4, 12), (-6, -6)], per_corner=4)
    brush.fill(m.STEEL, 6, curve)


def _magazine(brush: Brush, rng: np.random.Generator) -> None:
    half = rng.uniform(50, 62)
    case = [(-17, -half), (13, -half - 4), (16, half), (-16, half)]
    brush.fill(m.STEEL, 1.7, case)
    brush.strap(m.STEEL, 1.8, 16, [case[0], case[3]], [case[1], case[2]])
    brush.fill(m.PLASTIC if rng.random() < 0.6 else m.STEEL, 12, rectangle(1, half + 3, 42, 7, 2))
    capacity = int((2 * half - 22) / 6.4)
    rounds = int(rng.integers(0, capacity + 1)) if rng.random() < 0.75 else 0
    for i in range(rounds):
        # two staggered columns: neighbours are half behind one another
        _cartridge(brush.moved(-14, -half + 5 + 6.4 * i, -4), case=19, bullet=10, radius=4.8)
    spring_top = -half + 8 + 6.4 * rounds
    brush.fill(m.PLASTIC, 14, rectangle(0, spring_top - 1, 27, 7, 2))
    steps = np.arange(spring_top + 4, half, 7.5)
    if len(steps) > 1:
        zigzag = [(12 * (-1) ** i, y) for i, y in enumerate(steps)]
        brush.wire(m.STEEL, 1.5, zigzag)


def _cartridge(brush: Brush, case: float, bullet: float, radius: float) -> None:
    """Draw one round from its base along +x."""
    brush.turned(m.BRASS, [(0, radius), (case, radius * 0.97)], wall=0.55)
    brush.turned(m.BRASS, [(0, radius), (3, radius)])
    brush.turned(
        m.LEAD,
        [(case - 5, radius * 0.9), (case + bullet * 0.4, radius * 0.85), (case + bullet, radius * 0.25)],
    )
