"""Packing a bag: which objects go into which kind of bag, at which positions, and where a threat is hidden."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ganomaly.data.baggage import (
    belongings,
    clothing,
    electronics,
    firearms,
    knives,
    luggage,
)
from ganomaly.data.baggage.canvas import Brush, Canvas

THREAT_KINDS: tuple[str, ...] = ("gun", "gun_parts", "knife")
"""The threats of the publication's private data sets."""

Draw = Callable[[Brush, np.random.Generator], None]


@dataclass(frozen=True)
class Item:
    """An object to pack.

    Attributes
    ----------
    draw : callable
        Draws it around the brush's origin.
    length, width : float
        About how much room it takes along its own x and y, mm.
    """

    draw: Draw
    length: float
    width: float


_SOFT = (
    Item(clothing.crumpled_garment, 230, 190),
    Item(clothing.crumpled_garment, 230, 190),
    Item(clothing.crumpled_garment, 230, 190),
    Item(clothing.folded_shirt, 240, 300),
    Item(clothing.jeans, 220, 300),
    Item(clothing.towel, 240, 190),
)
_SMALL_CLOTHES = (
    Item(clothing.rolled_socks, 95, 80),
    Item(clothing.rolled_socks, 95, 80),
    Item(clothing.underwear, 250, 200),
    Item(clothing.belt, 130, 120),
)
_SHOES = (Item(clothing.pair_of_shoes, 290, 200),)
_LIQUIDS = (
    Item(belongings.water_bottle, 220, 75),
    Item(belongings.glass_bottle, 260, 70),
    Item(belongings.thermos, 230, 75),
    Item(belongings.drink_can, 125, 68),
)
_TOILETRIES = (
    Item(belongings.toiletry_bag, 230, 150),
    Item(belongings.toiletry_bag, 230, 150),
    Item(belongings.spray_can, 170, 55),
    Item(belongings.perfume, 60, 110),
    Item(belongings.cream_jar, 60, 60),
    Item(belongings.toothpaste, 160, 50),
    Item(electronics.hairdryer, 260, 270),
    Item(electronics.shaver, 170, 60),
)
_READING = (
    Item(belongings.book, 140, 210),
    Item(belongings.book, 140, 210),
    Item(belongings.notebook, 180, 250),
)
_POCKET = (
    Item(belongings.keys, 130, 130),
    Item(belongings.keys, 130, 130),
    Item(belongings.coins, 80, 80),
    Item(belongings.wallet, 115, 95),
    Item(belongings.glasses, 165, 70),
    Item(belongings.pens, 180, 40),
    Item(belongings.watch, 70, 100),
    Item(belongings.lipstick, 75, 25),
    Item(electronics.toy_car, 100, 50),
)
_COMPUTERS = (
    Item(electronics.laptop, 330, 230),
    Item(electronics.laptop, 330, 230),
    Item(electronics.tablet, 175, 245),
)
_DEVICES = (
    Item(electronics.phone, 75, 155),
    Item(electronics.charger, 210, 190),
    Item(electronics.charger, 210, 190),
    Item(electronics.cable, 150, 130),
    Item(electronics.power_bank, 90, 80),
    Item(electronics.headphones, 200, 190),
    Item(electronics.camera, 140, 130),
    Item(electronics.mouse, 115, 65),
    Item(electronics.cell, 50, 15),
)
_FOOD = (
    Item(belongings.fruit, 150, 80),
    Item(belongings.snack_box, 180, 125),
    Item(belongings.chocolate, 175, 85),
)
_UMBRELLA = (Item(belongings.umbrella, 290, 52),)

_Shell = Callable[[Brush, np.random.Generator, float, float], luggage.Room]
_Group = tuple[Sequence[Item], int, int]
"""Items to choose from, and the least and the largest number of them."""
_BAGS: tuple[tuple[float, _Shell, tuple[_Group, ...]], ...] = (
    (
        0.45,
        luggage.trolley,
        ((_SOFT, 4, 7), (_SMALL_CLOTHES, 1, 4), (_SHOES, 0, 1), (_TOILETRIES, 1, 3), (_READING, 0, 1),
         (_DEVICES, 1, 3), (_COMPUTERS, 0, 1), (_POCKET, 0, 3), (_LIQUIDS, 0, 2), (_UMBRELLA, 0, 1)),
    ),
    (
        0.25,
        luggage.backpack,
        ((_SOFT, 1, 3), (_COMPUTERS, 0, 1), (_READING, 1, 3), (_DEVICES, 2, 4), (_LIQUIDS, 1, 2), (_POCKET, 1, 4),
         (_FOOD, 0, 2), (_UMBRELLA, 0, 1)),
    ),
    (
        0.2,
        luggage.duffel,
        ((_SOFT, 3, 6), (_SMALL_CLOTHES, 1, 3), (_SHOES, 1, 1), (_LIQUIDS, 1, 2), (_TOILETRIES, 1, 3),
         (_POCKET, 1, 3), (_DEVICES, 0, 2), (_FOOD, 0, 1)),
    ),
    (
        0.1,
        luggage.briefcase,
        ((_COMPUTERS, 1, 1), (_READING, 1, 3), (_DEVICES, 2, 4), (_POCKET, 2, 4), (_SOFT, 0, 1), (_LIQUIDS, 0, 1),
         (_UMBRELLA, 0, 1)),
    ),
)  # fmt: skip

_THREATS: dict[str, tuple[Item, ...]] = {
    "gun": (
        Item(firearms.pistol, 190, 145),
        Item(firearms.pistol, 190, 145),
        Item(firearms.pistol, 190, 145),
        Item(firearms.revolver, 230, 160),
    ),
    "gun_parts": (
        Item(firearms.barrel, 140, 40),
        Item(firearms.slide, 190, 40),
        Item(firearms.frame, 180, 130),
        Item(firearms.magazine, 60, 130),
        Item(firearms.cylinder, 46, 46),
    ),
    "knife": (
        Item(knives.kitchen_knife, 290, 50),
        Item(knives.kitchen_knife, 290, 50),
        Item(knives.dagger, 280, 70),
        Item(knives.hunting_knife, 270, 60),
        Item(knives.folding_knife, 210, 40),
        Item(knives.folding_knife, 210, 40),
    ),
}


@dataclass(frozen=True)
class PackedBag:
    """A bag on the belt.

    Attributes
    ----------
    canvas : Canvas
        Its optical depths.
    inside : Brush
        A brush in the middle of its room, x along its long side.
    room : Room
        What can be packed.
    """

    canvas: Canvas
    inside: Brush
    room: luggage.Room


def pack_bag(height: int, width: int, pitch: float, rng: np.random.Generator) -> PackedBag:
    """Pack a random bag that fills an image of height × width pixels of `pitch` mm, less a white margin."""
    canvas = Canvas(height, width, pitch)
    length, breadth = max(height, width) * pitch, min(height, width) * pitch
    turn = float(np.clip(rng.normal(0, 2.5), -6, 6))
    slack = abs(np.sin(np.radians(turn)))
    margin = rng.uniform(14, 34, 2)
    brush = canvas.brush().moved(
        degrees=turn + (90 if height > width else 0) + 180 * int(rng.integers(2)),
        mirrored=bool(rng.integers(2)),
    )
    _, shell, groups = _BAGS[int(rng.choice(len(_BAGS), p=[share for share, _, _ in _BAGS]))]
    room = shell(brush, rng, length - margin[0] - slack * breadth, breadth - margin[1] - slack * length)
    bag = PackedBag(canvas, brush, room)
    clothing.stuffing(brush, rng, room.width, room.height)
    taken: list[tuple[float, float, float]] = []
    for items, least, most in groups:
        for _ in range(rng.integers(least, most + 1)):
            item = items[int(rng.integers(len(items)))]
            _pack(bag, item, rng, taken)
    return bag


def hide_threat(bag: PackedBag, threat: str, rng: np.random.Generator) -> Canvas:
    """Return the optical depths of one threat alone, at a random position and angle inside the bag."""
    items = _THREATS[threat]
    canvas = Canvas(bag.canvas.height, bag.canvas.width, bag.canvas.pitch)
    inside = Brush(canvas, bag.inside.matrix, bag.inside.origin)
    item = items[int(rng.integers(len(items)))]
    x, y, degrees = _position(item, bag.room, rng)
    item.draw(inside.moved(x, y, degrees, mirrored=bool(rng.integers(2))), rng)
    return canvas


def _pack(
    bag: PackedBag, item: Item, rng: np.random.Generator, taken: list[tuple[float, float, float]]
) -> None:
    """Put an item where it covers the others least."""
    soft = item in _SOFT
    candidates = [_position(item, bag.room, rng) for _ in range(2 if soft else 5)]
    radius = (item.length + item.width) / 4

    def overlap(position: tuple[float, float, float]) -> float:
        left, top, _ = position
        return sum(max(0.0, radius + r - float(np.hypot(left - x, top - y))) for x, y, r in taken)

    x, y, degrees = min(candidates, key=overlap)
    if not soft:
        taken.append((x, y, radius))
    item.draw(bag.inside.moved(x, y, degrees, mirrored=bool(rng.integers(2))), rng)


def _position(item: Item, room: luggage.Room, rng: np.random.Generator) -> tuple[float, float, float]:
    """Return (x, y, degrees) at which an item is within the room, if it fits at all."""
    degrees = rng.uniform(0, 360)
    for _ in range(4):
        cos, sin = abs(np.cos(np.radians(degrees))), abs(np.sin(np.radians(degrees)))
        free_x = room.width - (item.length * cos + item.width * sin)
        free_y = room.height - (item.length * sin + item.width * cos)
        if free_x >= 0 and free_y >= 0:
            break
        # an item that is too long to go across goes along
        degrees = 180 * int(rng.integers(2)) + rng.normal(0, 12)
    x, y = (rng.uniform(-0.5, 0.5) * max(free, 0.0) for free in (free_x, free_y))
    return x, y, degrees
