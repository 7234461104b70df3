"""What people pack besides clothes and electronics: bottles, toiletries, books, keys, glasses, an umbrella."""

import math

import numpy as np

from ganomaly.data.baggage import materials as m
from ganomaly.data.baggage.canvas import Array, Brush, circle, closed, ellipse, rectangle, smooth
from ganomaly.data.baggage.clothing import zip_fastener


def water_bottle(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a plastic bottle lying down: thin ribbed wall, liquid, neck, screw cap."""
    radius, length = rng.uniform(27, 40), rng.uniform(165, 230)
    end = length / 2
    body = [(-end, radius * 0.8), (-end + 8, radius), (end * 0.35, radius), (end * 0.6, radius * 0.8)]
    body += [(end * 0.8, 14), (end, 12)]
    ribs = np.linspace(-end + 8, end * 0.3, 40)
    ribbed = [(x, radius + 1.2 * math.sin(x / 3)) for x in ribs]
    brush.turned(m.POLYETHYLENE, [body[0], *ribbed, *body[2:]], wall=1.0)
    level = rng.uniform(0.35, 1.0)
    brush.turned(m.WATER, [(x, max(r - 1.2, 0) * level) for x, r in body])
    brush.turned(m.POLYETHYLENE, [(end - 4, 15), (end + 12, 15)], wall=3)
    brush.turned(m.POLYETHYLENE, [(end + 10, 15), (end + 13, 15)])


def glass_bottle(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a bottle of thick glass with a punt and a long neck, mostly full."""
    radius, length = rng.uniform(28, 37), rng.uniform(210, 280)
    end = length / 2
    body = [
        (-end, radius * 0.9),
        (-end + 6, radius),
        (end * 0.15, radius),
        (end * 0.45, 15),
        (end * 0.95, 13),
        (end, 14),
    ]
    brush.turned(m.GLASS, body, wall=rng.uniform(2.5, 3.6))
    brush.turned(m.GLASS, [(-end, radius * 0.9), (-end + 5, radius * 0.9), (-end + 22, 2)])
    level = rng.uniform(0.5, 0.95)
    brush.turned(m.WATER, [(x, (r - 3) * level) for x, r in body[:5]])
    if rng.random() < 0.5:
        brush.turned(m.WOOD, [(end - 42, 9.5), (end, 9.5)])
    else:
        brush.turned(m.ALUMINIUM, [(end - 28, 15), (end + 2, 15)], wall=0.5)


def thermos(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a double-walled steel flask with a cup."""
    radius, length = rng.uniform(32, 40), rng.uniform(190, 250)
    end = length / 2
    body = [
        (-end, radius * 0.95),
        (-end + 4, radius),
        (end * 0.55, radius),
        (end * 0.72, radius * 0.7),
        (end * 0.8, 22),
    ]
    brush.turned(m.STEEL, body, wall=0.5)
    brush.turned(m.STEEL, [(x * 0.97, max(r - 5, 4)) for x, r in body], wall=0.5)
    brush.turned(m.WATER, [(x * 0.95, max(r - 6, 4) * rng.uniform(0.3, 0.8)) for x, r in body])
    brush.turned(m.STEEL, [(end * 0.55, radius), (end - 3, radius * 0.9), (end, radius * 0.6)], wall=0.5)
    brush.turned(m.PLASTIC, [(end * 0.62, 20), (end * 0.86, 20)])


def drink_can(brush: Brush, rng: np.random.Generator) -> None:
    """Draw an aluminium can, lying or standing."""
    if rng.random() < 0.35:
        brush.ring(m.ALUMINIUM, 60, 0, 0, 33, 1.6)
        brush.disc(m.ALUMINIUM, 0.5, 0, 0, 31)
        brush.disc(m.WATER, 105, 0, 0, 31)
        brush.ring(m.ALUMINIUM, 2.5, 0, 0, 27, 3)
        brush.fill(m.ALUMINIUM, 1.2, ellipse(6, 0, 12, 8), holes=[ellipse(11, 0, 5, 5)])
        return
    body = [(-60, 24), (-54, 33), (48, 33), (58, 26), (61, 26)]
    brush.turned(m.ALUMINIUM, body, wall=0.35)
    brush.turned(m.WATER, [(-56, 24), (-52, 32), (46, 32), (54, 26)])
    for x in (-59, 60):
        brush.turned(m.ALUMINIUM, [(x - 1.2, 25), (x + 1.2, 25)])


def spray_can(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a deodorant: aluminium shell, half full, dip tube, valve, cap."""
    radius, length = rng.uniform(19, 27), rng.uniform(120, 165)
    end = length / 2
    brush.turned(
        m.ALUMINIUM, [(-end, radius * 0.85), (-end + 4, radius), (end - 22, radius), (end - 10, 12)], wall=0.7
    )
    brush.turned(m.COSMETIC, [(-end + 6, radius * 0.98), (end * rng.uniform(-0.3, 0.5), radius * 0.98)])
    brush.turned(m.STEEL, [(end - 14, 12), (end - 9, 12)], wall=0.6)
    brush.turned(m.STEEL, [(end - 12, 3.5), (end - 4, 3.5)], wall=0.8)
    brush.wire(m.POLYETHYLENE, 4, [(end - 10, 0), (0, 4), (-end + 8, radius * 0.6)])
    brush.turned(
        m.POLYETHYLENE, [(end - 22, radius), (end + 14, radius * 0.95), (end + 17, radius * 0.7)], wall=1.4
    )


def toiletry_bag(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a wash bag: toothpaste, toothbrush, jars, a razor, a lipstick, within a zipped pouch."""
    width, height = rng.uniform(190, 240), rng.uniform(120, 150)
    pouch = rectangle(0, 0, width, height, 26)
    brush.fill(m.NYLON, 2.4, pouch)
    brush.wire(m.NYLON, 4, closed(pouch))
    zip_fastener(
        brush, [(-width * 0.44, -height * 0.44), (width * 0.4, -height * 0.44)], metal=rng.random() < 0.5
    )
    drawers = [toothpaste, toothbrush, cream_jar, razor, lipstick, perfume, nail_clippers, soap]
    for i in rng.permutation(len(drawers))[: rng.integers(4, 7)]:
        x, y = rng.uniform(-0.25, 0.25) * width, rng.uniform(-0.22, 0.25) * height
        drawers[i](brush.moved(x, y, rng.normal(0, 25) + 180 * rng.integers(2)), rng)


def toothpaste(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a tube that is round at the shoulder and flat at the crimp."""
    used = rng.uniform(0.3, 1.0)
    shape = [(-78, -24), (40, -19), (52, -10), (52, 10), (40, 19), (-78, 24)]

    def thickness(x: Array, y: Array) -> Array:
        full = np.clip((x + 78) / 120, 0, 1) * 34 * used
        return np.asarray(full * np.sqrt(np.maximum(1 - (y / 24) ** 2, 0)), np.float32)

    brush.fill(m.TOOTHPASTE, thickness, shape)
    brush.fill(m.POLYETHYLENE, 2.5, rectangle(-78, 0, 8, 50))
    brush.turned(m.POLYETHYLENE, [(52, 11), (70, 9)], wall=2.5)


def toothbrush(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a toothbrush: handle and bristles."""
    brush.turned(m.PLASTIC, [(-90, 5), (0, 6), (50, 3.5), (60, 4), (90, 4)])
    brush.fill(m.NYLON, 9, rectangle(76, 0, 27, 10, 2))


def cream_jar(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a jar of cream standing: a filled disc with a thick wall and a threaded lid."""
    radius, height = rng.uniform(20, 33), rng.uniform(25, 45)
    brush.ring(m.GLASS if rng.random() < 0.5 else m.PLASTIC, height, 0, 0, radius, 3.5)
    brush.disc(m.COSMETIC, height * 0.8, 0, 0, radius - 3.5)
    brush.ring(m.PLASTIC, 14, 0, 0, radius + 1.5, 3)


def razor(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a safety razor: handle and a small head with thin blades."""
    metal = rng.random() < 0.4
    brush.turned(
        m.ZINC_ALLOY if metal else m.PLASTIC,
        [(-65, 5), (-20, 6.5), (30, 4.5), (52, 4)],
        wall=1.5 if metal else None,
    )
    brush.fill(m.PLASTIC, 8, rectangle(58, 0, 14, 42, 3))
    brush.fill(m.STEEL, 0.5, *(rectangle(x, 0, 1.8, 37) for x in (54, 58, 62)))


def lipstick(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a lipstick: metal sleeve around wax."""
    brush.turned(m.ALUMINIUM, [(-36, 9.5), (36, 9.5)], wall=0.8)
    brush.turned(m.BRASS, [(-30, 8), (2, 8)], wall=0.35)
    brush.turned(m.COSMETIC, [(-20, 6), (16, 6), (26, 1)])


def perfume(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a flat flask of thick glass with a sprayer."""
    width, height = rng.uniform(42, 60), rng.uniform(55, 80)
    brush.fill(
        m.GLASS, 24, rectangle(0, 0, width, height, 7), holes=[rectangle(0, -2, width - 12, height - 16, 5)]
    )
    brush.fill(m.GLASS, 7, rectangle(0, -2, width - 12, height - 16, 5))
    brush.fill(m.COSMETIC, 18, rectangle(0, height * 0.12, width - 12, height * 0.62, 5))
    brush.moved(0, -height / 2, -90).turned(m.ALUMINIUM, [(0, 8), (12, 8)], wall=0.6)
    brush.moved(0, -height / 2, -90).turned(m.PLASTIC, [(6, 13), (32, 13)], wall=3)
    brush.wire(m.POLYETHYLENE, 2.5, [(0, -height / 2), (6, height * 0.38)])


def nail_clippers(brush: Brush, rng: np.random.Generator) -> None:
    """Draw nail clippers: two steel levers and a pivot."""
    brush.fill(m.STEEL, 2.4, [(-28, -5), (26, -7), (30, 0), (26, 7), (-28, 5)])
    brush.fill(m.STEEL, 1.6, [(-34, -4), (18, -5), (18, 5), (-34, 4)])
    brush.disc(m.STEEL, 8, 18, 0, 3)


def soap(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a bar of soap in a box."""
    brush.fill(
        m.COSMETIC,
        lambda x, y: 24 * np.sqrt(np.maximum(1 - (x / 44) ** 4 - (y / 31) ** 4, 0)),
        ellipse(0, 0, 44, 31),
    )
    if rng.random() < 0.6:
        brush.ring(m.PLASTIC, 22, 0, 0, 50, 2)


def book(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a book: a block of paper, boards that stand out, a spine."""
    width, height, thickness = rng.uniform(105, 170), rng.uniform(165, 240), rng.uniform(12, 42)
    pages = rectangle(2, 0, width - 8, height - 6)
    lean = rng.uniform(-0.2, 0.2, 2) * thickness
    # an oblique beam sees the sides of the block as a ramp: three shifted thirds
    for share in (-0.5, 0, 0.5):
        brush.moved(*(share * lean)).fill(m.PAPER, thickness / 3, pages)
    if rng.random() < 0.5:
        brush.moved(*(-0.5 * lean)).fill(m.PAPER, 3.2, rectangle(0, 0, width, height, 2))
        brush.moved(*(0.5 * lean)).fill(m.PAPER, 3.2, rectangle(0, 0, width, height, 2))
        brush.fill(m.PAPER, thickness * 0.8, rectangle(-width / 2 + 1.5, 0, 3, height))


def notebook(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a notebook bound by a coil of steel wire."""
    width, height = rng.uniform(140, 200), rng.uniform(200, 285)
    brush.fill(m.PAPER, rng.uniform(4, 11), rectangle(6, 0, width, height, 4))
    brush.fill(m.PLASTIC, 1.2, rectangle(6, 0, width + 3, height + 4, 5))
    edge = -width / 2 + 8
    coils = [[(edge - 8, y), (edge + 3, y + 2)] for y in np.arange(-height / 2 + 10, height / 2 - 10, 8.5)]
    brush.wire(m.STEEL, 1.9, *coils)


def keys(brush: Brush, rng: np.random.Generator) -> None:
    """Draw three to six keys and a fob on a split ring."""
    brush.wire(m.STEEL, 3.4, circle(0, 0, 15, 24), [(15, 0), (14.5, 4)])
    for angle in rng.uniform(0, 360) + np.cumsum(rng.uniform(18, 60, rng.integers(3, 7))):
        key = brush.moved(0, 0, angle).moved(14).tilted(rng.uniform(0, 40), about=0)
        material, thickness = (m.BRASS, 2.4) if rng.random() < 0.6 else (m.STEEL, 2.3)
        if rng.random() < 0.25:
            key.turned(m.STEEL, [(14, 3), (52, 3)], wall=1)
            key.fill(m.STEEL, 2.5, rectangle(46, 5, 10, 10))
            key.ring(m.STEEL, 3, 6, 0, 12, 3.5)
            continue
        bow = smooth([(-6, -7), (4, -12), (16, -10), (20, -4.5), (20, 4.5), (16, 10), (4, 12), (-6, 7)])
        key.fill(material, thickness, bow, holes=[circle(0, 0, 3.4, 12)])
        cuts = [(x, 4.2 - c) for x, c in zip(np.arange(24, 50, 3.6), rng.uniform(0, 3.2, 8), strict=True)]
        key.fill(material, thickness * 0.9, [(18, -4.2), (46, -4.2), (53, -1), *cuts[::-1], (19, 4.2)])
    if rng.random() < 0.5:
        fob = brush.moved(0, 0, rng.uniform(0, 360)).moved(30)
        fob.fill(m.PLASTIC, 9, rectangle(4, 0, 48, 30, 9))
        fob.fill(m.CIRCUIT_BOARD, 1.6, rectangle(4, 0, 36, 22))
        fob.disc(m.STEEL, 2.6, 8, 0, 9.5)


def wallet(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a wallet: leather, cards with chips, a pocket of coins."""
    brush.fill(m.LEATHER, 7, rectangle(0, 0, 112, 92, 6))
    brush.fill(m.LEATHER, 3, rectangle(0, 12, 104, 64, 4))
    brush.fill(m.PVC, 0.8 * rng.integers(2, 6), rectangle(-3, 8, 85.6, 54, 3))
    brush.fill(m.COPPER, 0.12, rectangle(-28, 6, 12, 11, 2))
    coins(brush.moved(18, -8), rng, spread=13)


def coins(brush: Brush, rng: np.random.Generator, spread: float = 24) -> None:
    """Draw loose coins; they pile up darker where they overlap."""
    for x, y in rng.normal(0, spread, (rng.integers(4, 10), 2)):
        coin = brush.moved(x, y, rng.uniform(0, 180)).tilted(rng.choice([0, 0, 0, 35, 60]))
        radius = rng.uniform(8.2, 12.9)
        if rng.random() < 0.3:
            coin.ring(m.BRASS, 2.1, 0, 0, radius, 3.5)
            coin.disc(m.CUPRONICKEL, 2.1, 0, 0, radius - 3.5)
        else:
            coin.disc(m.CUPRONICKEL if rng.random() < 0.5 else m.BRASS, 1.9, 0, 0, radius)


def glasses(brush: Brush, rng: np.random.Generator) -> None:
    """Draw spectacles with folded temples, often in a case of thin steel."""
    metal, rim = (m.STEEL, 1.5) if rng.random() < 0.5 else (m.PLASTIC, 4.5)
    for side in (-1, 1):
        lens = smooth(
            [
                (side * 34 + dx, dy)
                for dx, dy in ((-25, -14), (0, -20), (25, -15), (26, 6), (8, 20), (-18, 16))
            ]
        )
        brush.fill(m.GLASS if rng.random() < 0.4 else m.POLYCARBONATE, 2.2, lens)
        brush.wire(metal, rim, closed(lens))
        brush.wire(
            metal, rim, [(side * 61, -10), (side * 66, -2), (-side * 52, 6 + 4 * side), (-side * 70, 16)]
        )
        brush.disc(m.STEEL, 3.5, side * 62, -9, 3)
    brush.wire(metal, rim, [(-10, -6), (0, -11), (10, -6)])
    if rng.random() < 0.5:
        case = rectangle(0, 0, 162, 64, 26)
        brush.fill(m.STEEL, 0.25, case)
        brush.fill(m.LEATHER, 4, case)
        brush.wire(m.STEEL, 1.6, closed(case))


def umbrella(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a folding umbrella: shaft, bundle of ribs, wrapped cloth, handle."""
    half = rng.uniform(115, 150)
    brush.turned(m.NYLON, [(-half, 12), (-half + 20, 22), (half * 0.55, 25), (half * 0.62, 12)])
    brush.turned(m.STEEL, [(-half, 5), (half * 0.7, 5)], wall=0.7)
    for offset in np.linspace(-1, 1, 8):
        y, bow = 15 * offset, rng.normal(0, 2)
        brush.wire(
            m.STEEL,
            2.0,
            [(-half + 6, y * 0.4), (-half * 0.4, y + bow), (half * 0.3, y - bow), (half * 0.55, y * 0.5)],
        )
        brush.disc(m.STEEL, 3, -half * rng.uniform(0.2, 0.5), y, 2.6)
    brush.turned(m.STEEL, [(half * 0.52, 8), (half * 0.6, 8)], wall=2)
    brush.turned(m.PLASTIC, [(half * 0.62, 15), (half * 0.95, 17), (half, 10)], wall=4.5)
    brush.disc(m.ZINC_ALLOY, 3, half * 0.72, 8, 4)


def pens(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a few pens and pencils, side by side and crossing."""
    for _ in range(rng.integers(2, 5)):
        pen = brush.moved(rng.normal(0, 9), rng.normal(0, 9), rng.normal(0, 12))
        kind = rng.random()
        if kind < 0.35:
            pen.turned(m.WOOD, [(-85, 3.6), (72, 3.6), (88, 0.5)])
        elif kind < 0.65:
            pen.turned(m.PLASTIC, [(-70, 5), (55, 5), (70, 1)], wall=1.2)
            pen.turned(m.BRASS, [(-10, 1.4), (66, 1.4)], wall=0.4)
        else:
            pen.turned(m.BRASS, [(-68, 5.5), (50, 5.5), (68, 1.2)], wall=0.7)
            pen.wire(m.STEEL, 1.8, [(-66, 6.5), (-26, 6.5)])


def fruit(brush: Brush, rng: np.random.Generator) -> None:
    """Draw an apple or a banana."""
    if rng.random() < 0.5:
        radius = rng.uniform(32, 40)
        _ball(brush, m.FOOD, radius)
        brush.wire(m.WOOD, 3, [(0, -radius * 0.6), (4, -radius - 6)])
    else:
        angle = np.linspace(-0.85, 0.85, 16)
        brush.wire(m.FOOD, 33, np.stack([95 * np.sin(angle), 95 * (1 - np.cos(angle))], 1)[2:-2])
        brush.wire(m.FOOD, 12, np.stack([95 * np.sin(angle), 95 * (1 - np.cos(angle))], 1))


def snack_box(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a lunch box: plastic walls, sandwich, something lumpy."""
    brush.fill(m.PLASTIC, 3, rectangle(0, 0, 175, 120, 18))
    brush.fill(m.PLASTIC, 45, rectangle(0, 0, 175, 120, 18), holes=[rectangle(0, 0, 170, 115, 16)])
    brush.fill(m.FOOD, rng.uniform(18, 32), rectangle(-36, 0, 85, 96, 12))
    for _ in range(rng.integers(3, 7)):
        lump = brush.moved(50 + rng.normal(0, 12), rng.normal(0, 26), rng.uniform(0, 180))
        _ball(lump.tilted(rng.uniform(0, 40)), m.FOOD, rng.uniform(11, 18))


def chocolate(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a bar of chocolate in foil: a grid of pieces."""
    brush.fill(m.FOOD, 5, rectangle(0, 0, 160, 76))
    pieces = [rectangle(x, y, 19, 15) for x in np.arange(-68, 70, 22.5) for y in (-27, -9, 9, 27)]
    brush.fill(m.FOOD, 5, *pieces)
    brush.fill(m.ALUMINIUM, 0.05, rectangle(0, 0, 172, 82))


def watch(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a wrist watch: steel case, movement, crown, link bracelet or leather strap bent to a loop."""
    brush.ring(m.STEEL, 7, 0, 0, 20, 3.5)
    brush.disc(m.STEEL, 1.0, 0, 0, 18)
    brush.disc(m.BRASS, 1.8, 2, 1, 12)
    brush.disc(m.STEEL, 2.5, -4, 5, 4.5)
    brush.fill(m.STEEL, 4, rectangle(22, 0, 5, 5))
    angle = np.linspace(0.35, 2 * math.pi - 0.35, 24)
    loop = np.stack([30 * np.sin(angle), 42 - 42 * np.cos(angle)], 1)
    if rng.random() < 0.5:
        brush.dots(m.STEEL, 6, loop, 4.2)
    else:
        brush.strap(m.LEATHER, 3.5, 15, loop)
        brush.ring(m.STEEL, 2, 0, 84, 9, 2)


def _ball(brush: Brush, material: m.Material, radius: float) -> None:
    angle = np.linspace(-math.pi / 2, math.pi / 2, 15)
    brush.turned(material, np.stack([radius * np.sin(angle), radius * np.cos(angle)], 1))
