"""Laptops, phones, cameras, chargers and what else has a circuit board, a battery or a motor."""

import math

import numpy as np

from ganomaly.data.baggage import materials as m
from ganomaly.data.baggage.canvas import Brush, Outline, circle, closed, ellipse, rectangle, smooth


def circuit_board(brush: Brush, rng: np.random.Generator, width: float, height: float) -> None:
    """Draw a populated board: glass fibre, copper planes, chips, capacitors, connectors at the edge."""
    outline = [
        (-width / 2, -height / 2),
        (width / 2, -height / 2),
        (width / 2, height * 0.2),
        (width * 0.3, height * 0.2),
    ]
    outline += [(width * 0.3, height / 2), (-width / 2, height / 2)]
    if rng.random() < 0.5:
        outline = [(-x, y) for x, y in outline]
    brush.fill(m.CIRCUIT_BOARD, 1.5, outline)
    brush.fill(m.COPPER, 0.12, outline)
    area = width * height

    def scattered(count: int, largest: float) -> list[Outline]:
        centres = rng.uniform(-0.45, 0.45, (count, 2)) * (width, height)
        sizes = largest * rng.uniform(0.3, 1, (count, 2))
        return [
            rectangle(x, y * 0.6 - height * 0.1, a, b) for (x, y), (a, b) in zip(centres, sizes, strict=True)
        ]

    brush.fill(m.CHIP, 1.6, *scattered(max(3, int(area / 1500)), min(width, height) * 0.28))
    brush.fill(m.COPPER, 0.35, *scattered(max(3, int(area / 1200)), 11))
    brush.fill(m.SOLDER, 0.16, *scattered(max(6, int(area / 350)), 5))
    sockets = [rectangle(x, -height / 2 + 5, 13, 9) for x in np.arange(-width * 0.4, width * 0.4, 26)]
    brush.fill(m.STEEL, 0.6, *sockets)


def laptop(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a closed laptop: lid and base, hinge, board with fan and heat pipe, keyboard, battery cells, drive."""
    width = rng.uniform(295, 350)
    height = width * rng.uniform(0.66, 0.72)
    shell = rectangle(0, 0, width, height, 9)
    if rng.random() < 0.6:
        brush.fill(m.ALUMINIUM, 2.6, shell)
    else:
        brush.fill(m.PLASTIC, 6.5, shell)
        brush.fill(m.ALUMINIUM, 0.7, rectangle(0, 0, width - 12, height - 12, 8))
    brush.strap(m.ALUMINIUM, 3, 8, closed(shell))
    brush.fill(m.GLASS, 1.2, rectangle(0, -2, width - 16, height - 20, 3))
    # keyboard
    pitch = width * 0.058
    keys = [
        rectangle(
            (column - 6.5) * pitch + row % 2 * 4, -height * 0.16 + row * pitch, pitch * 0.82, pitch * 0.8, 0
        )
        for row in range(5)
        for column in range(14)
    ]
    brush.fill(m.PLASTIC, 2.2, *keys)
    brush.fill(m.STEEL, 0.35, rectangle(0, -height * 0.16 + 2 * pitch, width * 0.84, pitch * 5.2))
    # board, fan, heat pipe
    circuit_board(
        brush.moved(-width * 0.08 + rng.normal(0, 6), -height * 0.27), rng, width * 0.72, height * 0.34
    )
    side = rng.choice([-1, 1])
    fan_x, fan_y = side * width * 0.36, -height * 0.28
    brush.ring(m.PLASTIC, 7, fan_x, fan_y, 26, 3)
    brush.disc(m.COPPER, 1.6, fan_x, fan_y, 8)
    brush.disc(m.MAGNET, 1.5, fan_x, fan_y, 6)
    blades = [
        [
            (fan_x + 9 * math.cos(a), fan_y + 9 * math.sin(a)),
            (fan_x + 22 * math.cos(a + 0.5), fan_y + 22 * math.sin(a + 0.5)),
        ]
        for a in np.arange(0, 6.2, 0.55)
    ]
    brush.wire(m.PLASTIC, 2.5, *blades)
    brush.strap(m.COPPER, 8, 0.9, [(fan_x, fan_y - 20), (fan_x * 0.5, fan_y - 16), (fan_x * 0.1, fan_y + 6)])
    brush.fill(m.COPPER, 1.6, rectangle(fan_x * 0.1, fan_y + 6, 28, 28))
    # battery
    cells = int(rng.integers(3, 7))
    cell_width = width * 0.82 / cells
    for i in range(cells):
        x = (i - (cells - 1) / 2) * cell_width
        brush.fill(m.BATTERY_CELL, 5.5, rectangle(x, height * 0.31, cell_width - 4, height * 0.26, 3))
    if rng.random() < 0.4:
        drive = brush.moved(-side * width * 0.33, height * 0.02)
        drive.fill(m.ALUMINIUM, 5, rectangle(0, 0, 75, 70, 3))
        drive.ring(m.ALUMINIUM, 2, 8, 0, 30, 20)
        drive.fill(m.MAGNET, 3, rectangle(-28, 18, 16, 14))
    for x in (-0.36, 0.36):
        brush.wire(m.STEEL, 7, [(x * width - 22, -height / 2 + 4), (x * width + 22, -height / 2 + 4)])
    brush.dots(m.STEEL, 4, [(x * width, y * height) for x in (-0.47, 0, 0.47) for y in (-0.46, 0.46)], 2.6)


def phone(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a phone: glass, frame, board at the top, one battery, cameras, coil."""
    width, height = rng.uniform(66, 78), rng.uniform(138, 165)
    case = rectangle(0, 0, width, height, 11)
    brush.fill(m.GLASS, 1.5, case)
    brush.strap(m.ALUMINIUM, 2.5, 7, closed(case))
    brush.fill(m.ALUMINIUM, 0.6, case)
    brush.fill(m.BATTERY_CELL, 4.3, rectangle(width * 0.12, height * 0.1, width * 0.62, height * 0.56, 3))
    circuit_board(brush.moved(-2, -height * 0.34), rng, width * 0.8, height * 0.24)
    circuit_board(brush.moved(0, height * 0.44), rng, width * 0.7, 12)
    brush.fill(m.STEEL, 0.3, rectangle(-width * 0.1, -height * 0.34, width * 0.4, height * 0.14))
    for y in (-0.43, -0.34):
        brush.ring(m.STEEL, 3, -width * 0.3, y * height, 7, 2)
        brush.disc(m.GLASS, 3, -width * 0.3, y * height, 5)
    brush.disc(m.MAGNET, 2, width * 0.2, height * 0.44, 5)


def tablet(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a tablet: a large thin plate, two battery cells, a narrow board."""
    width, height = rng.uniform(160, 180), rng.uniform(230, 255)
    case = rectangle(0, 0, width, height, 12)
    brush.fill(m.ALUMINIUM, 1.0, case)
    brush.fill(m.GLASS, 1.6, case)
    brush.strap(m.ALUMINIUM, 2.5, 5, closed(case))
    for x in (-1, 1):
        brush.fill(
            m.BATTERY_CELL, 3, rectangle(x * width * 0.22, height * 0.08, width * 0.38, height * 0.6, 4)
        )
    circuit_board(brush.moved(0, -height * 0.36), rng, width * 0.85, height * 0.18)


def camera(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a camera with its lens to the side or towards the beam."""
    body = [(-68, -36), (-30, -42), (-18, -56), (18, -56), (28, -42), (68, -36), (68, 46), (-68, 46)]
    brush.fill(m.PLASTIC, 8, smooth(body, per_corner=3))
    brush.strap(m.PLASTIC, 3, 32, [*body, body[0]])
    brush.fill(m.ALUMINIUM, 2.2, rectangle(0, 4, 118, 74, 5))
    circuit_board(brush.moved(-8, 6), rng, 84, 56)
    brush.fill(m.BATTERY_CELL, 18, rectangle(52, 10, 24, 46, 3))
    brush.fill(m.GLASS, 22, [(-12, -50), (12, -50), (16, -36), (-16, -36)])
    brush.fill(m.STEEL, 3, rectangle(0, -57, 22, 4), rectangle(-62, -40, 10, 6), rectangle(62, -40, 10, 6))
    if rng.random() < 0.6:
        for radius, depth in ((36, 45), (29, 40), (22, 30)):
            brush.ring(m.ALUMINIUM, depth * 0.6, -6, 6, radius, 3)
        brush.fill(m.GLASS, lambda x, y: 26 - 0.02 * ((x + 6) ** 2 + (y - 6) ** 2), circle(-6, 6, 20))
    else:
        lens = brush.moved(-6, 44, 90)
        lens.turned(m.ALUMINIUM, [(0, 34), (20, 36), (22, 32), (70, 32), (74, 36), (84, 36)], wall=2.2)
        for x in (8, 26, 40, 66):
            lens.turned(m.GLASS, [(x - 5, 2), (x - 3, 22), (x + 3, 22), (x + 5, 2)])
        lens.turned(m.BRASS, [(30, 29), (52, 29)], wall=0.8)


def charger(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a mains adapter: transformer, board, capacitors, pins, and its coiled cable."""
    brush = brush.moved(-15, -35)
    width, height = rng.uniform(75, 115), rng.uniform(42, 56)
    brush.fill(m.PLASTIC, 5, rectangle(0, 0, width, height, 7))
    brush.strap(m.PLASTIC, 2.5, 26, closed(rectangle(0, 0, width, height, 7)))
    circuit_board(brush, rng, width * 0.85, height * 0.8)
    brush.fill(m.FERRITE, 14, rectangle(width * 0.1, 0, 26, 24), holes=[rectangle(width * 0.1, 0, 8, 14)])
    brush.fill(m.COPPER, 5, rectangle(width * 0.1, 0, 16, 20))
    for x, y in ((-0.28, -0.15), (-0.28, 0.2), (-0.1, 0.22)):
        brush.moved(x * width, y * height).turned(m.ALUMINIUM, [(-10, 6.5), (10, 6.5)])
    if rng.random() < 0.6:
        brush.wire(m.BRASS, 4.5, *([(-width / 2, y), (-width / 2 - 19, y)] for y in (-9, 9)))
    cable(brush.moved(width * 0.2, height * 0.4), rng)


def cable(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a cable wound in loose loops with a metal plug at each end."""
    loops = rng.uniform(2, 4)
    angle = np.linspace(0, 2 * math.pi * loops, int(26 * loops))
    a = (
        rng.uniform(34, 58)
        + 6 * np.sin(angle * 0.37 + rng.uniform(0, 6))
        + rng.normal(0, 1, len(angle)).cumsum() * 0.5
    )
    b = a * rng.uniform(0.45, 0.9)
    path = np.stack([a * np.cos(angle) + 2.5 * np.sin(angle * 0.21), b * np.sin(angle)], 1)
    ends = path[-1] + np.array([[12, 18], [34, 30]])
    path = np.concatenate([path, smooth(np.concatenate([path[-1:], ends]), loop=False)])
    diameter = rng.uniform(3.2, 5.5)
    brush.wire(m.PVC, diameter, path)
    brush.wire(m.COPPER, 1.1, path)
    for (x, y), (dx, dy) in ((path[0], path[0] - path[1]), (path[-1], path[-1] - path[-2])):
        plug = brush.moved(x, y, math.degrees(math.atan2(dy, dx)))
        plug.fill(m.PVC, 7, rectangle(6, 0, 20, 11, 3))
        plug.fill(m.STEEL, 1.4, rectangle(20, 0, 14, 8))


def power_bank(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a power bank of round cells side by side."""
    cells = int(rng.integers(2, 5))
    brush.fill(m.PLASTIC, 4, rectangle(0, 0, 88, cells * 20 + 8, 7))
    for i in range(cells):
        cell = brush.moved(-4, (i - (cells - 1) / 2) * 19.5)
        cell.turned(m.BATTERY_CELL, [(-32, 8.5), (32, 8.5)])
        cell.turned(m.STEEL, [(-33, 9), (33, 9)], wall=0.3)
    circuit_board(brush.moved(38, 0, 90), rng, cells * 18, 9)


def hairdryer(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a hairdryer: barrel with heating coil and fan motor, handle with switch, cable."""
    brush = brush.moved(15, -85)
    brush.turned(m.PLASTIC, [(-95, 30), (-60, 42), (0, 42), (60, 36), (95, 28)], wall=2.5)
    brush.turned(m.STEEL, [(25, 30), (88, 26)], wall=0.4)
    coil_x = np.linspace(-5, 75, 60)
    brush.wire(m.STEEL, 1.5, np.stack([coil_x, 24 * np.sin(coil_x * 0.75)], 1))
    brush.wire(m.STEEL, 1.5, np.stack([coil_x, 15 * np.sin(coil_x * 0.9 + 1)], 1))
    motor = brush.moved(-42, 0)
    motor.turned(m.STEEL, [(-18, 16), (18, 16)], wall=1.4)
    motor.turned(m.COPPER, [(-12, 10), (12, 10)], wall=2.5)
    motor.turned(m.STEEL, [(-30, 1.6), (28, 1.6)])
    motor.fill(m.PLASTIC, 3, *(rectangle(-24, y, 5, 14) for y in (-28, -12, 12, 28)))
    handle = brush.moved(-38, 38, 90 + rng.normal(6, 6))
    handle.fill(m.PLASTIC, 7, rectangle(52, 0, 110, 34, 12))
    handle.strap(m.PLASTIC, 2.5, 26, [(0, -17), (104, -16), (108, 0), (104, 16), (0, 17)])
    circuit_board(handle.moved(40, 0), rng, 40, 22)
    handle.fill(m.COPPER, 1.5, rectangle(30, 0, 14, 10), rectangle(58, 3, 8, 8))
    path = smooth([(105, 0), (135, 10), (120, 50), (60, 60), (40, 35), (90, 30), (140, 60)], loop=False)
    handle.wire(m.PVC, 7, path)
    handle.wire(m.COPPER, 2, path)


def headphones(brush: Brush, rng: np.random.Generator) -> None:
    """Draw headphones: spring-steel band, cushions, drivers with magnets."""
    brush = brush.moved(0, 20)
    angle = np.linspace(math.pi, 2 * math.pi, 20)
    band = np.stack([78 * np.cos(angle), 88 * np.sin(angle)], 1)
    brush.strap(m.FOAM, 18, 25, band)
    brush.strap(m.STEEL, 2, 12, band)
    for side in (-1, 1):
        cup = brush.moved(side * 78, 22, side * rng.uniform(0, 12)).tilted(rng.uniform(20, 60), about=90)
        cup.ring(m.LEATHER, 20, 0, 0, 38, 14)
        cup.fill(m.PLASTIC, 5, ellipse(0, 0, 36, 36))
        cup.ring(m.MAGNET, 4, 0, 0, 16, 6)
        cup.disc(m.STEEL, 1.5, 0, 0, 16)
        cup.ring(m.COPPER, 2, 0, 0, 9, 2)


def mouse(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a computer mouse: shell, board, wheel, two small batteries."""
    shell = ellipse(0, 0, 56, 31)
    brush.fill(m.PLASTIC, 5, shell)
    brush.strap(m.PLASTIC, 2, 18, closed(shell))
    circuit_board(brush.moved(14, 0), rng, 58, 36)
    brush.fill(m.RUBBER, 6, rectangle(34, 0, 20, 7, 3))
    for y in (-8, 8):
        cell(brush.moved(-24, y), rng)


def cell(brush: Brush, rng: np.random.Generator) -> None:
    """Draw an AA cell."""
    brush.turned(m.STEEL, [(-24, 7), (24, 7)], wall=0.35)
    brush.turned(m.FERRITE, [(-22, 6.5), (22, 6.5)], wall=3)
    brush.turned(m.BRASS, [(-22, 1), (18, 1)])
    brush.turned(m.STEEL, [(23, 2.6), (26, 2.6)])


def shaver(brush: Brush, rng: np.random.Generator) -> None:
    """Draw an electric shaver: grip, motor, cell, three rotary heads."""
    brush.turned(m.PLASTIC, [(-75, 18), (-40, 24), (20, 26), (48, 20)], wall=3)
    brush.moved(-35, 0).turned(m.BATTERY_CELL, [(-28, 8.5), (28, 8.5)])
    brush.moved(20, 0).turned(m.STEEL, [(-14, 11), (14, 11)], wall=1.5)
    brush.moved(20, 0).turned(m.COPPER, [(-9, 7), (9, 7)], wall=2)
    circuit_board(brush.moved(-10, 12), rng, 70, 10)
    for x, y in ((54, -14), (54, 14), (76, 0)):
        brush.ring(m.STEEL, 4, x, y, 12, 4)
        brush.disc(m.PLASTIC, 14, x, y, 14)
        brush.disc(m.STEEL, 1, x, y, 9)


def toy_car(brush: Brush, rng: np.random.Generator) -> None:
    """Draw a toy car of die-cast metal: body shell, axles, rubber wheels."""
    length = rng.uniform(60, 110)
    body = smooth(
        [
            (-0.5, 0.05),
            (-0.45, -0.12),
            (-0.2, -0.17),
            (-0.08, -0.3),
            (0.2, -0.3),
            (0.3, -0.15),
            (0.5, -0.1),
            (0.5, 0.05),
        ]
    )
    windows = [
        [(-0.16, -0.16), (-0.06, -0.27), (0.03, -0.27), (0.03, -0.16)],
        [(0.06, -0.16), (0.06, -0.27), (0.17, -0.27), (0.24, -0.16)],
    ]
    brush.fill(
        m.ZINC_ALLOY,
        2.2,
        np.asarray(body) * length,
        holes=[np.asarray(window) * length for window in windows],
    )
    brush.fill(m.PLASTIC, 20, rectangle(0.03 * length, -0.07 * length, 0.5 * length, 0.1 * length))
    brush.fill(m.STEEL, 1.5, rectangle(0, 0.04 * length, 0.9 * length, 0.03 * length))
    for x in (-0.28, 0.3):
        brush.disc(m.RUBBER, 16, x * length, 0.07 * length, 0.115 * length)
        brush.disc(m.STEEL, 22, x * length, 0.07 * length, 0.025 * length)
