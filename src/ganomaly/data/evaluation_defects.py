"""Synthetic defects that a search looks for, put into normal images that it holds out of training.

They are other ones than those that methods train with (`methods/synthetic_defects.py`): a search that counted how
well a network finds what it was trained to find would choose the network that learns the drawing by heart. Those are
flat or textured shapes laid over a patch; these bend the image itself (moved, twirled), shade it on two sides as a
dent does, or add what has a structure of its own (a cluster of pores, a crack that branches and has a lit edge).

They are drawn at the size of the user's image, before it is scaled, so that all trials look for the same ones.
Lengths are shares of √(H · W), and strengths are in units of the image's local contrast.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage

from ganomaly.data import EncodedImage, ImageDataset, ImageRecord, Pixels
from ganomaly.data.sources.dataset import DerivedImages

VISIBLE = 1.0
"""Mean change over a defect, in units of local contrast, below which it is drawn again: nobody could see it."""

_TRIES = 12
_WINDOW = 15  # px, of the local contrast
_CONTRAST_SIDE = 512  # px, roughly, at which it is measured
_MIN_CONTRAST = 2 / 255  # of white
_WHITE_LEVELS = (255, 1023, 4095, 16383, 65535)  # of 8, 10, 12, 14 and 16 bits
_MARGIN = 0.1  # of the sides; no defect is centred closer to an edge

Values = NDArray[np.float32]


class DefectiveImages(DerivedImages):
    """Images of a dataset, several times each, with synthetic defects or as they are.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    indices : sequence of int
        Which of them, in order; an image may come more than once.
    kinds : sequence of str or None
        A key of `DEFECTS` for each; None leaves the image as it is.
    seed : int
        Of the drawing.
    """

    def __init__(
        self, dataset: ImageDataset, indices: Sequence[int], kinds: Sequence[str | None], seed: int
    ) -> None:
        super().__init__([dataset])
        self.name = f"{dataset.name}, with synthetic defects"
        self._dataset, self._indices, self._kinds, self._seed = dataset, indices, kinds, seed
        self.records = [
            ImageRecord(dataset.records[index].path, kind, kind is not None)
            for index, kind in zip(indices, kinds, strict=True)
        ]

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        """Open an image; its defect is drawn when it is decoded."""
        with self._dataset.open(self._indices[index]) as image:
            yield _DefectiveImage(image, self._kinds[index], (self._seed, index))

    def _located(self, index: int) -> tuple[ImageDataset, int]:
        return self._dataset, self._indices[index]


class _DefectiveImage(EncodedImage):
    def __init__(self, image: EncodedImage, kind: str | None, seed: Sequence[int]) -> None:
        self.header = image.header
        self._image, self._kind, self._seed = image, kind, seed

    def decode(self, smallest_side: int | None = None) -> Pixels:
        return self.decode_in(None)

    def decode_in(self, value_range: tuple[float, float] | None, smallest_side: int | None = None) -> Pixels:
        # always at full size, as the image without the defect is, so that the two differ in nothing else
        pixels = self._image.decode_in(value_range)
        return pixels if self._kind is None else with_defect(pixels, self._kind, self._seed)


def with_defect(pixels: Pixels, kind: str, seed: Sequence[int]) -> Pixels:
    """Draw one defect.

    Parameters
    ----------
    pixels : ndarray
        `uint8` or `uint16` `[H, W, C]`.
    kind : str
        A key of `DEFECTS`; where it can hardly be seen, as a twirl in a plain area, another place is tried.
    seed : sequence of int
        The drawing depends on it and on the pixels alone.
    """
    generator = np.random.default_rng([*seed, sorted(DEFECTS).index(kind)])
    white = next(level for level in _WHITE_LEVELS if level >= pixels.max())
    values = pixels.astype(np.float32)
    contrast = _local_contrast(values, white)
    best, most = values, -1.0
    for _ in range(_TRIES):
        drawn = np.clip(DEFECTS[kind](_Canvas.of(values, contrast, generator)), 0, white)
        change = np.abs(drawn - values).mean(axis=2)
        changed = change > 0.25 * contrast
        seen = float(change[changed].mean()) / contrast if changed.any() else 0.0
        if seen > most:
            best, most = drawn, seen
        if seen >= VISIBLE:
            break
    rounded = np.rint(best)
    return rounded.astype(np.uint8) if pixels.dtype == np.uint8 else rounded.astype(np.uint16)


class _Canvas(NamedTuple):
    """An image to draw on, and the place of a defect: its coordinates from there are in units of √(H · W)."""

    values: Values  # [H, W, C]
    contrast: float
    generator: Generator
    side: float  # px, √(H · W)
    centre: tuple[float, float]  # row and column
    down: Values  # [H, 1]
    right: Values  # [1, W]

    @classmethod
    def of(cls, values: Values, contrast: float, generator: Generator) -> "_Canvas":
        height, width = values.shape[:2]
        side = math.sqrt(height * width)
        row, column = (generator.uniform(_MARGIN, 1 - _MARGIN) * length for length in (height, width))
        down = ((np.arange(height) - row) / side).astype(np.float32)[:, None]
        right = ((np.arange(width) - column) / side).astype(np.float32)[None]
        return cls(values, contrast, generator, side, (row, column), down, right)

    def distance(self) -> Values:
        """From the place, `float32[H, W]`."""
        return np.hypot(self.down, self.right)

    def log_uniform(self, low: float, high: float) -> float:
        return math.exp(self.generator.uniform(math.log(low), math.log(high)))

    def tone(self, low: float, high: float) -> float:
        """A step in gray values, lighter or darker."""
        return self.log_uniform(low, high) * self.contrast * float(self.generator.choice((-1.0, 1.0)))


def _moved(canvas: _Canvas) -> Values:
    """An area is moved a little, and the image around it stretched."""
    radius = canvas.log_uniform(0.03, 0.1)
    angle = canvas.generator.uniform(0, 2 * math.pi)
    length = canvas.generator.uniform(0.3, 0.8) * radius * canvas.side
    amount = np.exp(-((canvas.distance() / radius) ** 2)) * length
    return _warped(canvas.values, amount * math.sin(angle), amount * math.cos(angle))


def _twirled(canvas: _Canvas) -> Values:
    """A round area is turned about its centre, less towards its rim."""
    radius = canvas.log_uniform(0.04, 0.12)
    most = canvas.generator.uniform(0.4, 1) * math.pi * float(canvas.generator.choice((-1, 1)))
    angle = most * np.clip(1 - canvas.distance() / radius, 0, 1)
    sine, cosine = np.sin(angle), np.cos(angle)
    down = (canvas.right * sine + canvas.down * cosine - canvas.down) * canvas.side
    right = (canvas.right * cosine - canvas.down * sine - canvas.right) * canvas.side
    return _warped(canvas.values, down, right)


def _dented(canvas: _Canvas) -> Values:
    """Light on one side and dark on the other, as a dent in grazing light."""
    radius = canvas.log_uniform(0.015, 0.06)
    angle = canvas.generator.uniform(0, 2 * math.pi)
    across = (canvas.right * math.cos(angle) + canvas.down * math.sin(angle)) / radius
    shading = across * np.exp(0.5 - 0.5 * (canvas.distance() / radius) ** 2) / 0.75
    dented: Values = canvas.values + (canvas.tone(1.5, 6) * shading)[..., None]
    return dented


def _porous(canvas: _Canvas) -> Values:
    """A cluster of small round pores."""
    spread = canvas.log_uniform(0.02, 0.08)
    opacity = np.zeros(canvas.values.shape[:2], np.float32)
    for _ in range(int(canvas.generator.integers(5, 20))):
        radius = max(canvas.log_uniform(0.003, 0.01), 1 / canvas.side)
        down, right = canvas.generator.normal(0, spread, 2)
        distance = np.hypot(canvas.down - down, canvas.right - right)
        pore = np.clip((radius - distance) * canvas.side + 0.5, 0, 1)
        np.maximum(opacity, pore, out=opacity)
    pores: Values = canvas.values + (canvas.tone(2, 8) * opacity)[..., None]
    return pores


def _cracked(canvas: _Canvas) -> Values:
    """A thin dark line that branches, with a lit edge beside it."""
    height, width = canvas.values.shape[:2]
    mask = Image.new("L", (width, height))
    draw = ImageDraw.Draw(mask)
    step = canvas.log_uniform(0.006, 0.015) * canvas.side
    branches = [(*canvas.centre, canvas.generator.uniform(0, 2 * math.pi), 18)]
    while branches:
        row, column, direction, length = branches.pop()
        for _ in range(length):
            direction += canvas.generator.normal(0, 0.35)
            end = (row + step * math.sin(direction), column + step * math.cos(direction))
            draw.line((column, row, end[1], end[0]), fill=255, width=max(1, round(0.003 * canvas.side)))
            row, column = end
            if length > 6 and canvas.generator.random() < 0.12:
                turned = direction + float(canvas.generator.choice((-1, 1))) * canvas.generator.uniform(
                    0.5, 1.1
                )
                branches.append((row, column, turned, length // 3))
    line = ndimage.gaussian_filter(np.asarray(mask, np.float32) / 255, 0.6)
    shift = max(1.0, 0.003 * canvas.side)
    lit = np.clip(ndimage.shift(line, (shift, shift), order=1) - line, 0, 1)
    depth = canvas.log_uniform(2, 8) * canvas.contrast
    cracked: Values = canvas.values + (0.5 * depth * lit - depth * line)[..., None]
    return cracked


DEFECTS: dict[str, Callable[[_Canvas], Values]] = {
    "cracked": _cracked,
    "dented": _dented,
    "moved": _moved,
    "porous": _porous,
    "twirled": _twirled,
}
"""What draws each kind."""


def _warped(values: Values, down: Values, right: Values) -> Values:
    """Take each pixel from where the offsets, `float[H, W]` in pixels, point to."""
    height, width, channels = values.shape
    touched = np.flatnonzero((np.hypot(down, right) > 0.01).any(axis=1))
    if not len(touched):
        return values
    rows = slice(int(touched[0]), int(touched[-1]) + 1)
    columns = np.arange(width)[None] + right[rows]
    from_rows = np.arange(height)[rows, None] + down[rows]
    warped = values.copy()
    for channel in range(channels):
        warped[rows, :, channel] = ndimage.map_coordinates(
            values[..., channel], (from_rows, columns), order=1, mode="reflect"
        )
    return warped


def _local_contrast(values: Values, white: int) -> float:
    """The median over the image of the standard deviation within 15×15 pixels; of a large image every few pixels."""
    stride = max(1, round(math.sqrt(values.shape[0] * values.shape[1]) / _CONTRAST_SIDE))
    gray = values[::stride, ::stride].mean(axis=2, dtype=np.float64)
    mean = ndimage.uniform_filter(gray, _WINDOW)
    variance = ndimage.uniform_filter(gray**2, _WINDOW) - mean**2
    return max(float(np.median(np.sqrt(np.clip(variance, 0, None)))), _MIN_CONTRAST * white)
