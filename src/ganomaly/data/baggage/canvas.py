"""Drawing objects: shapes in millimetres become optical depth per pixel, and depths add.

Beer and Lambert: what passes through a pile is I = I₀ · exp(−Σ μ(material, energy) · thickness). Adding an object is
therefore adding μ · thickness to two arrays, one for each energy, in any order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from ganomaly.data.baggage.materials import Material

Array = NDArray[np.float32]
Points = NDArray[np.float64]
Outline = Sequence[tuple[float, float]] | Points
"""Corners (x, y) in mm."""
Thickness = float | Callable[[Array, Array], Array]
"""Millimetres along the beam: one number, or a function of the local x and y in mm."""

# (largest area in pixels, subpixels per side): what is large has long edges that need less
_SUPERSAMPLING = ((4_000, 4), (15_000, 3))
# how bright a round wire is drawn across its diameter: width and chord, both as a share of the diameter
_ROUND_PROFILE = ((1.0, 0.45), (0.85, 0.70), (0.65, 0.88), (0.40, 0.98))


class Canvas:
    """Optical depth at both energies of all objects drawn so far.

    Parameters
    ----------
    height, width : int
        Pixels.
    pitch : float
        Millimetres per pixel.

    Attributes
    ----------
    low, high : float32 [H, W]
        Σ μ · thickness at the low and the high energy, without unit.
    """

    def __init__(self, height: int, width: int, pitch: float) -> None:
        self.height = height
        self.width = width
        self.pitch = pitch
        self.low: Array = np.zeros((height, width), np.float32)
        self.high: Array = np.zeros((height, width), np.float32)

    def brush(self) -> Brush:
        """Return a brush whose origin is the middle of the canvas, x to the right and y down."""
        middle = np.array([self.width / 2, self.height / 2])
        return Brush(self, np.eye(2) / self.pitch, middle)


@dataclass(frozen=True)
class Brush:
    """Draws in its own millimetres, at any position and angle on the canvas."""

    canvas: Canvas
    matrix: NDArray[np.float64]
    """Local mm → pixels, [2, 2]."""
    origin: NDArray[np.float64]
    """Position of local (0, 0), pixels (x, y)."""
    depth: float = 1.0
    """Factor on every thickness; above 1 for an object tilted out of the image plane."""

    def moved(self, x: float = 0, y: float = 0, degrees: float = 0, *, mirrored: bool = False) -> Brush:
        """Return a brush shifted by (x, y) mm, then turned, then perhaps mirrored."""
        cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
        turn = np.array([[cos, -sin], [sin, cos]])
        if mirrored:
            turn[:, 1] *= -1
        return replace(self, matrix=self.matrix @ turn, origin=self.origin + self.matrix @ (x, y))

    def tilted(self, degrees: float, about: float = 0) -> Brush:
        """Return a brush whose plane is tilted against the image plane about the axis at angle `about`.

        Objects appear shorter across that axis, and the beam's path through them is longer.
        """
        cos = math.cos(math.radians(degrees))
        axis = np.array([math.cos(math.radians(about)), math.sin(math.radians(about))])
        squeeze = np.eye(2) * cos + np.outer(axis, axis) * (1 - cos)
        return replace(self, matrix=self.matrix @ squeeze, depth=self.depth / cos)

    def fill(
        self, material: Material, thickness: Thickness, *outlines: Outline, holes: Sequence[Outline] = ()
    ) -> None:
        """Add plates of one material with the given outlines, less the holes."""
        shapes = self._to_pixels(outlines)
        sheet = _Sheet.around(shapes, self.canvas)
        if sheet is None:
            return
        for corners in sheet.scaled(shapes):
            sheet.pen.polygon(corners, fill=255)
        for corners in sheet.scaled(self._to_pixels(holes)):
            sheet.pen.polygon(corners, fill=0)
        self._add(material, thickness, sheet)

    def dots(self, material: Material, thickness: Thickness, centres: Outline, radius: float) -> None:
        """Add many small round plates: screws, rivets, the teeth of a zip."""
        shapes = self._to_pixels([centres])
        radius *= self._pixels_per_mm()
        sheet = _Sheet.around(shapes, self.canvas, margin=radius)
        if sheet is None:
            return
        radius *= sheet.factor
        coordinates = sheet.scaled(shapes)[0]
        for x, y in zip(coordinates[::2], coordinates[1::2], strict=True):
            sheet.pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
        self._add(material, thickness, sheet)

    def disc(self, material: Material, thickness: Thickness, x: float, y: float, radius: float) -> None:
        """Add a round plate."""
        self.fill(material, thickness, circle(x, y, radius))

    def ring(
        self, material: Material, thickness: Thickness, x: float, y: float, radius: float, width: float
    ) -> None:
        """Add a flat ring of the given outer radius."""
        self.fill(material, thickness, circle(x, y, radius), holes=[circle(x, y, radius - width)])

    def wire(self, material: Material, diameter: float, *paths: Outline) -> None:
        """Add round wires, rods or cords along the paths."""
        shapes = self._to_pixels(paths)
        width = diameter * self._pixels_per_mm()
        sheet = _Sheet.around(shapes, self.canvas, margin=width / 2)
        if sheet is None:
            return
        width *= sheet.factor
        # a wire thinner than the pen keeps its mass: it is drawn as wide as the pen, and fainter
        faint = min(1.0, width / 2)
        for share, chord in _ROUND_PROFILE if width > 6 else ((1.0, math.pi / 4),):
            sheet.lines(shapes, max(2, round(width * share)), round(255 * chord * faint))
        self._add(material, diameter, sheet)

    def strap(self, material: Material, width: float, thickness: float, *paths: Outline) -> None:
        """Add flat bands of constant thickness along the paths."""
        shapes = self._to_pixels(paths)
        width *= self._pixels_per_mm()
        sheet = _Sheet.around(shapes, self.canvas, margin=width / 2)
        if sheet is None:
            return
        sheet.lines(shapes, max(1, round(width * sheet.factor)), 255)
        self._add(material, thickness, sheet)

    def turned(self, material: Material, stations: Outline, wall: float | None = None) -> None:
        """Add a solid of revolution about the local x axis, or its shell.

        Parameters
        ----------
        material : Material
            What it is made of.
        stations : sequence of (x, radius)
            Its profile in mm, x ascending.
        wall : float, optional
            Thickness of the shell in mm; without it the body is solid.
        """
        x, radius = np.asarray(stations, float).T
        outline = np.concatenate([np.stack([x, radius], 1), np.stack([x, -radius], 1)[::-1]])

        def chord(u: Array, v: Array) -> Array:
            outer = np.interp(u, x, radius)
            length = np.sqrt(np.maximum(outer**2 - v**2, 0))
            if wall is not None:
                inner = np.maximum(outer - wall, 0)
                length -= np.sqrt(np.maximum(inner**2 - v**2, 0))
            return np.asarray(2 * length, np.float32)

        self.fill(material, chord, outline)

    def _to_pixels(self, shapes: Sequence[Outline]) -> list[Points]:
        if len(shapes) <= 1:
            return [np.asarray(shape, float) @ self.matrix.T + self.origin for shape in shapes]
        # many small shapes are moved as one array
        points = np.concatenate([np.asarray(shape, float) for shape in shapes])
        ends = np.cumsum([len(shape) for shape in shapes])
        return np.split(points @ self.matrix.T + self.origin, ends[:-1])

    def _pixels_per_mm(self) -> float:
        return math.sqrt(abs(float(np.linalg.det(self.matrix))))

    def _add(self, material: Material, thickness: Thickness, sheet: _Sheet) -> None:
        through = sheet.coverage()
        if callable(thickness):
            through *= thickness(*self._local_grid(sheet))
            through *= np.float32(self.depth)
        else:
            through *= np.float32(thickness * self.depth)
        part = slice(sheet.top, sheet.bottom), slice(sheet.left, sheet.right)
        self.canvas.low[part] += through * np.float32(material.attenuation_low)
        self.canvas.high[part] += through * np.float32(material.attenuation_high)

    def _local_grid(self, sheet: _Sheet) -> tuple[Array, Array]:
        """Return local x and y in mm at the centres of the pixels of a sheet."""
        inverse = np.linalg.inv(self.matrix).astype(np.float32)
        x = np.arange(sheet.left, sheet.right, dtype=np.float32) + np.float32(0.5 - self.origin[0])
        y = (np.arange(sheet.top, sheet.bottom, dtype=np.float32) + np.float32(0.5 - self.origin[1]))[:, None]
        return inverse[0, 0] * x + inverse[0, 1] * y, inverse[1, 0] * x + inverse[1, 1] * y


@dataclass(frozen=True)
class _Sheet:
    """A finer raster over the part of the canvas that some shapes touch; smooth edges come from averaging it."""

    left: int
    top: int
    right: int
    bottom: int
    factor: int
    image: Image.Image
    pen: ImageDraw.ImageDraw

    @classmethod
    def around(cls, shapes: list[Points], canvas: Canvas, margin: float = 0) -> _Sheet | None:
        """Return a blank sheet, or None when the shapes (in pixels) are outside the canvas."""
        points = shapes[0] if len(shapes) == 1 else np.concatenate(shapes)
        left, top = np.maximum(np.floor(points.min(0) - margin - 1), 0).astype(int).tolist()
        right, bottom = np.ceil(points.max(0) + margin + 1).astype(int).tolist()
        right, bottom = min(right, canvas.width), min(bottom, canvas.height)
        if left >= right or top >= bottom:
            return None
        area = (right - left) * (bottom - top)
        factor = next((factor for largest, factor in _SUPERSAMPLING if area <= largest), 2)
        image = Image.new("L", ((right - left) * factor, (bottom - top) * factor))
        return cls(left, top, right, bottom, factor, image, ImageDraw.Draw(image))

    def scaled(self, shapes: list[Points]) -> list[list[float]]:
        """Return for each shape its coordinates x, y, x, y … on this sheet, from those on the canvas."""
        # Pillow's whole numbers are the centres of pixels, ours their corners
        shift = np.array([self.left, self.top]) + 0.5 / self.factor
        return [((shape - shift) * self.factor).ravel().tolist() for shape in shapes]

    def lines(self, paths: list[Points], width: int, value: int) -> None:
        """Draw lines of the given width and value, in subpixels and 0 … 255."""
        # round joints are slow, and gaps in thin lines are filled by the averaging
        joint = "curve" if width > 9 else None
        for path in self.scaled(paths):
            self.pen.line(path, fill=value, width=width, joint=joint)

    def coverage(self) -> Array:
        """Return the drawn value averaged over each pixel, in [0, 1]."""
        return np.asarray(self.image.reduce(self.factor), np.float32) * np.float32(1 / 255)


def circle(x: float, y: float, radius: float, corners: int = 28) -> Points:
    """Return a circle as a polygon."""
    return ellipse(x, y, radius, radius, corners)


def ellipse(x: float, y: float, a: float, b: float, corners: int = 36) -> Points:
    """Return an ellipse with half axes a (along x) and b as a polygon."""
    angle = np.linspace(0, 2 * math.pi, corners, endpoint=False)
    return np.stack([x + a * np.cos(angle), y + b * np.sin(angle)], 1)


def rectangle(x: float, y: float, width: float, height: float, corner: float = 0) -> Points:
    """Return a rectangle centred on (x, y), its corners rounded with radius `corner` mm."""
    signs = np.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)])
    corner = min(corner, width / 2, height / 2)
    corners: Points = signs * (width / 2 - corner, height / 2 - corner) + np.array([x, y])
    if corner <= 0:
        return corners
    angle = np.linspace(0, math.pi / 2, 6) + np.arange(4)[:, None] * (math.pi / 2)  # [4, 6]
    arcs = corner * np.stack([np.cos(angle), np.sin(angle)], -1)  # [4, 6, 2]
    rounded: Points = corners[:, None] + arcs
    return rounded.reshape(-1, 2)


def closed(outline: Outline) -> Points:
    """Return the outline as a path that ends where it began."""
    points = np.asarray(outline, float)
    return np.concatenate([points, points[:1]])


def smooth(points: Outline, *, loop: bool = True, per_corner: int = 5) -> Points:
    """Return a smooth curve through the points (Catmull–Rom)."""
    p = np.asarray(points, float)
    p = np.concatenate([p[-1:], p, p[:2]]) if loop else np.concatenate([p[:1], p, p[-1:]])
    before, here, there, after = (p[i : len(p) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, per_corner, endpoint=False)[None, :, None]
    curve = 0.5 * (
        2 * here
        + (there - before) * t
        + (2 * before - 5 * here + 4 * there - after) * t**2
        + (3 * here - before - 3 * there + after) * t**3
    )
    curve = curve.reshape(-1, 2)
    return curve if loop else np.concatenate([curve, p[-1:]])
