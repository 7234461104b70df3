"""Defects made from normal images: something small is drawn, pasted, blurred or toned into a patch.

A network that learns to spot and to undo them has learned what normal patches look like, from normal images alone
(Li et al., *CutPaste*, CVPR 2021; Zavrtanik et al., *DRAEM*, ICCV 2021; Schlüter et al., *Natural Synthetic
Anomalies*, ECCV 2022). All strengths are in units of the local contrast of the normal images, so that nothing is
tuned to a data set.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

UNTOUCHED = 0.1  # share of the patches
MOST_DEFECTS = 5  # in one patch
VISIBLE = 0.8  # units of local contrast; a change below is no defect, for nobody could see it
FAINT = 0.1  # opacity up to which a place is not of the defect
LEAST_AREA = 30.0  # px; a defect that is smaller counts no more than one of this size
SHARE_TINTED = 0.5  # of the light that a stain lets through, at most, by which its colours differ
SHARE_TONED = 0.6  # of the thin shapes; what is pasted into a thin shape is seldom seen


class Altered(NamedTuple):
    """Patches with defects.

    Attributes
    ----------
    patches : Tensor
        `float[N, C, S, S]` in [−1, 1].
    changed : Tensor
        `float[N, 1, S, S]`, 1 where a change can be seen, else 0.
    importance : Tensor
        `float[N, 1, S, S]`, how much a changed place counts: the root of the patch's area over that of the defect, so
        that a crack is not lost beside a stain of a hundred times its area. 1 elsewhere.
    """

    patches: Tensor
    changed: Tensor
    importance: Tensor


def with_defects(x: Tensor, contrast: float, random: Generator) -> Altered:
    """Put defects into patches.

    Parameters
    ----------
    x : Tensor
        `float[N, C, S, S]`, patches of normal images in [−1, 1].
    contrast : float
        Standard deviation within a few pixels that is usual in normal images.
    random : Generator
        Everything follows from it.
    """
    altered = x.clone()
    size = x.shape[-1]
    importance = torch.ones(len(x), 1, size, size)
    for position in range(len(x)):
        if random.random() < UNTOUCHED:
            continue
        for _ in range(random.integers(1, MOST_DEFECTS + 1)):
            shape, thin = _draw_shape(size, random)
            importance[position].clamp_min_(_importance(shape) * (shape > FAINT))
            opacity = shape.to(x.device) * random.uniform(0.35, 1)
            content = _draw_content(altered, position, contrast, thin, random)
            altered[position] = altered[position].lerp(content, opacity).clamp_(-1, 1)
    difference = functional.avg_pool2d((altered - x).abs().mean(dim=1, keepdim=True), 3, 1, 1)
    visible = (difference > VISIBLE * contrast).float()
    # close the holes that chance leaves
    closed = -functional.max_pool2d(-functional.max_pool2d(visible, 5, 1, 2), 5, 1, 2)
    # what can be seen reaches beyond a shape
    around = functional.max_pool2d(importance, 5, 1, 2).to(x.device)
    return Altered(altered, closed, torch.where(closed > 0, around, 1.0))


def local_contrast(x: Tensor) -> float:
    """The median over places of the standard deviation within 15×15 pixels; `float[N, C, H, W]` to one number."""
    mean = functional.avg_pool2d(x, 15, 4)
    variance = functional.avg_pool2d(x * x, 15, 4) - mean * mean
    return max(float(variance.clamp_min(0).sqrt().median()), 2 / 255)


def _importance(shape: Tensor) -> float:
    """The root of how often a defect, `float[S, S]` of opacities, fits into the patch; ≥ 1."""
    area = float((shape > 0.5).sum())
    return math.sqrt(shape.numel() / max(area, LEAST_AREA))


def _draw_shape(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A soft mask `float[S, S]` in [0, 1], and whether it is thin."""
    shapes: list[tuple[float, Callable[[int, Generator], tuple[Tensor, bool]]]] = [
        (0.28, _blob),
        (0.07, _area),
        (0.30, _scratch),
        (0.13, _islands),
        (0.14, _rectangle),
        (0.08, _side),
    ]
    chosen = random.choice(len(shapes), p=[share for share, _ in shapes])
    return shapes[chosen][1](size, random)


def _blob(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A round or longish spot with a rough rim."""
    return _spot(size, _log_uniform(random, 1.5, size / 5), random)


def _area(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A spot so large that the patch may show a part of it only."""
    return _spot(size, _log_uniform(random, size / 5, size / 2), random)


def _spot(size: int, radius: float, random: Generator) -> tuple[Tensor, bool]:
    stretch = _log_uniform(random, 0.4, 1)
    along, across = _turned(size, random)
    distance = torch.sqrt((along * stretch) ** 2 + (across / stretch) ** 2) / radius
    rough = distance + 0.35 * _smooth_noise(1, size, size / max(radius, 3), random)[0]
    return torch.sigmoid((1 - rough) * radius / random.uniform(0.5, 2.5)), radius < 6


def _scratch(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A scratch or a crack: a line that turns as it goes."""
    points = 40
    length = _log_uniform(random, size / 8, size)
    turns = np.cumsum(random.standard_normal(points)) * random.uniform(0, 0.25)
    direction = turns + random.uniform(0, 2 * math.pi)
    start = random.uniform(0, size, (2, 1))
    path = start + np.cumsum([np.cos(direction), np.sin(direction)], axis=1) * length / points  # [2, points]
    places = torch.stack(_grid(size), dim=-1).reshape(-1, 2)
    to_path = torch.cdist(places, torch.from_numpy(path.T.astype(np.float32)))
    distance = to_path.amin(dim=1).reshape(size, size)
    width = _log_uniform(random, 0.6, 3.5)
    return torch.sigmoid((width - distance) / random.uniform(0.3, 0.8)), True


def _islands(size: int, random: Generator) -> tuple[Tensor, bool]:
    """Where smooth noise is high."""
    noise = _smooth_noise(1, size, _log_uniform(random, 2, size / 6), random)[0]
    level = torch.quantile(noise, random.uniform(0.85, 0.98))
    return torch.sigmoid((noise - level) / random.uniform(0.03, 0.3)), False


def _rectangle(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A turned rectangle."""
    half_width, half_height = _log_uniform(random, 1.5, size / 4), _log_uniform(random, 2, size / 3)
    along, across = _turned(size, random)
    inside = torch.sigmoid((half_width - along.abs()) / 0.5) * torch.sigmoid(
        (half_height - across.abs()) / 0.5
    )
    return inside, False


def _side(size: int, random: Generator) -> tuple[Tensor, bool]:
    """All that lies beyond a wavy line; less than half of the patch."""
    angle, offset = random.uniform(0, 2 * math.pi), random.uniform(0.05, 0.45) * size
    columns, rows = _grid(size)
    distance = (columns - size / 2) * math.cos(angle) + (rows - size / 2) * math.sin(angle) - offset
    waves = _smooth_noise(1, size, random.uniform(2, 8), random)[0] * random.uniform(0, 4)
    return torch.sigmoid((distance + waves) / _log_uniform(random, 0.4, 4)), False


def _draw_content(x: Tensor, position: int, contrast: float, thin: bool, random: Generator) -> Tensor:
    """What shall stand in the shape: `float[C, S, S]`."""
    contents = ("other image", "same image", "tone", "stain", "contrast", "texture", "blur")
    kind = "tone" if thin and random.random() < SHARE_TONED else random.choice(contents)
    image = x[position]
    mean = image.mean(dim=(1, 2), keepdim=True)
    channels, size, _ = image.shape
    match kind:
        case "other image" | "same image":
            source = image if kind == "same image" else x[int(random.integers(len(x)))]
            return _moved(source, random) + random.uniform(-2, 2) * contrast
        case "tone":
            step = _log_uniform(random, 1.2, 20) * contrast * float(random.choice((-1, 1)))
            colour = np.ones(channels) if random.random() < 0.5 else random.standard_normal(channels)
            return image + step * torch.from_numpy(colour).to(image)[:, None, None]
        case "stain":  # what lets through a part of the light, as dirt does, and everything in an X-ray image
            share = _log_uniform(random, 0.1, 0.9) * (1 - SHARE_TINTED * random.random(channels))
            return (image + 1) * torch.from_numpy(share).to(image)[:, None, None] - 1
        case "contrast":
            gain = _log_uniform(random, 0.2, 4)
            return mean + (image - mean) * gain + random.uniform(-2, 2) * contrast
        case "texture":
            shift = 5 * contrast * torch.from_numpy(random.standard_normal((channels, 1, 1))).to(image)
            noise = _smooth_noise(channels, size, _log_uniform(random, 2, size / 3), random).to(image)
            return mean + shift + noise * _log_uniform(random, 0.5, 5) * contrast
        case _:
            reach = int(random.integers(1, 4))
            return functional.avg_pool2d(
                image[None], 2 * reach + 1, 1, reach, count_include_pad=False
            ).squeeze(0)


def _moved(image: Tensor, random: Generator) -> Tensor:
    """Another part of an image, perhaps mirrored or turned; `float[C, S, S]`."""
    size = image.shape[-1]
    shift = (int(random.integers(size)), int(random.integers(size)))
    image = torch.roll(image, shift, dims=(1, 2))
    flips = [axis for axis in (1, 2) if random.random() < 0.5]
    image = image.flip(flips) if flips else image
    return image.transpose(1, 2) if random.random() < 0.5 else image


def _smooth_noise(channels: int, size: int, cells: float, random: Generator) -> Tensor:
    """Noise of variance about 1 that changes over `size / cells` pixels; `float[channels, S, S]`."""
    coarse = random.standard_normal((1, channels, *[max(2, int(cells)) + 2] * 2), dtype=np.float32)
    return functional.interpolate(
        torch.from_numpy(coarse), size=(size, size), mode="bicubic", align_corners=False
    )[0]


def _turned(size: int, random: Generator) -> tuple[Tensor, Tensor]:
    """Coordinates in pixels about a random centre along two turned axes, `float[S, S]` each."""
    centre, angle = random.uniform(0, size, 2), random.uniform(0, math.pi)
    columns, rows = _grid(size)
    right, down = columns - centre[0], rows - centre[1]
    cosine, sine = math.cos(angle), math.sin(angle)
    return right * cosine + down * sine, down * cosine - right * sine


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Column and row of the centre of each pixel, `float[S, S]` each."""
    places = torch.arange(size) + 0.5
    rows, columns = torch.meshgrid(places, places, indexing="ij")
    return columns, rows


def _log_uniform(random: Generator, low: float, high: float) -> float:
    return math.exp(random.uniform(math.log(low), math.log(max(low, high))))
