"""Synthetic defects: something small is drawn, pasted, blurred or toned into patches of normal images.

A network that learns to segment and to remove them learns what normal patches look like, from normal images alone
(Li et al., *CutPaste*, CVPR 2021; Zavrtanik et al., *DRAEM*, ICCV 2021; Schlüter et al., *Natural Synthetic
Anomalies*, ECCV 2022). All strengths are in units of the local contrast of the normal images, so that nothing is
tuned to a data set.
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.nn import functional

DEFECT_FREE_SHARE = 0.1  # of the patches
MAX_DEFECTS = 5  # in one patch
VISIBLE = 0.8  # units of local contrast; a smaller change is no defect, for nobody could see it
MIN_OPACITY = 0.1  # from which a pixel is part of the defect
CLOSING = 5  # px, window of the morphological closing
MIN_AREA = 30.0  # px; a smaller defect is weighted like one of this size
MAX_TINT = 0.5  # largest share by which the colours of the light that a stain lets through differ
TONE_SHARE = 0.6  # of the thin shapes; an image pasted into a thin shape is rarely visible


class DefectivePatches(NamedTuple):
    """Patches with synthetic defects.

    Attributes
    ----------
    patches : Tensor
        `float[N, C, S, S]` in [−1, 1].
    mask : Tensor
        `float[N, 1, S, S]`, 1 where a change is visible, else 0.
    weight : Tensor
        `float[N, 1, S, S]`, of a pixel in the segmentation loss: the root of the patch's area over that of the
        defect, so that a crack is not lost beside a stain of a hundred times its area; 1 where the mask is 0.
    """

    patches: Tensor
    mask: Tensor
    weight: Tensor


def with_defects(x: Tensor, contrast: float, random: Generator) -> DefectivePatches:
    """Put synthetic defects into patches.

    Parameters
    ----------
    x : Tensor
        `float[N, C, S, S]`, patches of normal images in [−1, 1].
    contrast : float
        Local contrast of normal images, as from `local_contrast`.
    random : Generator
        The one source of randomness.
    """
    patches = x.clone()
    size = x.shape[-1]
    weight = torch.ones(len(x), 1, size, size)
    for index in range(len(x)):
        if random.random() < DEFECT_FREE_SHARE:
            continue
        for _ in range(random.integers(1, MAX_DEFECTS + 1)):
            shape, thin = _draw_shape(size, random)
            weight[index].clamp_min_(_weight(shape) * (shape > MIN_OPACITY))
            opacity = shape.to(x.device) * random.uniform(0.35, 1)
            content = _draw_content(patches, index, contrast, thin, random)
            patches[index] = patches[index].lerp(content, opacity).clamp_(-1, 1)
    difference = functional.avg_pool2d((patches - x).abs().mean(dim=1, keepdim=True), 3, 1, 1)
    visible = (difference > VISIBLE * contrast).float()
    # morphological closing: by chance single pixels inside a defect hardly change
    mask = -_dilated(-_dilated(visible))
    # the mask is wider than the shape, so its weight is too
    weight = _dilated(weight).to(x.device)
    return DefectivePatches(patches, mask, torch.where(mask > 0, weight, 1.0))


def local_contrast(x: Tensor) -> float:
    """The median over the image of the standard deviation within 15×15 pixels; `float[N, C, H, W]` to one number."""
    mean = functional.avg_pool2d(x, 15, 4)
    variance = functional.avg_pool2d(x * x, 15, 4) - mean * mean
    return max(float(variance.clamp_min(0).sqrt().median()), 2 / 255)


def _dilated(x: Tensor) -> Tensor:
    """The maximum within `CLOSING` × `CLOSING` pixels, of `float[N, 1, S, S]`.

    As maxima of shifted rows and columns: PyTorch's pooling takes 25 times as long for one channel.
    """
    for axis in (2, 3):
        side, margin = x.shape[axis], CLOSING // 2
        padding = (0, 0, margin, margin) if axis == 2 else (margin, margin)
        padded = functional.pad(x, padding, value=-math.inf)
        x = padded.narrow(axis, 0, side)
        for shift in range(1, CLOSING):
            x = torch.maximum(x, padded.narrow(axis, shift, side))
    return x


def _weight(shape: Tensor) -> float:
    """The root of the patch's area over that of a defect, `float[S, S]` of opacities; ≥ 1."""
    area = float((shape > 0.5).sum())
    return math.sqrt(shape.numel() / max(area, MIN_AREA))


def _draw_shape(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A soft mask `float[S, S]` in [0, 1], and whether it is thin."""
    shapes: list[tuple[float, Callable[[int, Generator], tuple[Tensor, bool]]]] = [
        (0.28, _blob),
        (0.07, _large_blob),
        (0.30, _scratch),
        (0.13, _islands),
        (0.14, _rectangle),
        (0.08, _half_plane),
    ]
    drawn = random.choice(len(shapes), p=[share for share, _ in shapes])
    return shapes[drawn][1](size, random)


def _blob(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A round or elongated blob with a rough rim."""
    return _rough_ellipse(size, _log_uniform(random, 1.5, size / 5), random)


def _large_blob(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A blob so large that the patch may contain only a part of it."""
    return _rough_ellipse(size, _log_uniform(random, size / 5, size / 2), random)


def _rough_ellipse(size: int, radius: float, random: Generator) -> tuple[Tensor, bool]:
    stretch = _log_uniform(random, 0.4, 1)
    along, across = _rotated_axes(size, random)
    distance = torch.sqrt((along * stretch) ** 2 + (across / stretch) ** 2) / radius
    rough = distance + 0.35 * _smooth_noise(1, size, size / max(radius, 3), random)[0]
    return torch.sigmoid((1 - rough) * radius / random.uniform(0.5, 2.5)), radius < 6


def _scratch(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A scratch or a crack: a line that bends."""
    points = 40
    length = _log_uniform(random, size / 8, size)
    turns = np.cumsum(random.standard_normal(points)) * random.uniform(0, 0.25)
    direction = turns + random.uniform(0, 2 * math.pi)
    start = random.uniform(0, size, (2, 1))
    path = start + np.cumsum([np.cos(direction), np.sin(direction)], axis=1) * length / points  # [2, points]
    # of each point of the path to the columns and to the rows of pixels, [points, size] each
    columns, rows = torch.from_numpy(path.astype(np.float32))[:, :, None] - _centres(size)
    distance = (columns.square()[:, None, :] + rows.square()[:, :, None]).amin(dim=0).sqrt()
    width = _log_uniform(random, 0.6, 3.5)
    return torch.sigmoid((width - distance) / random.uniform(0.3, 0.8)), True


def _islands(size: int, random: Generator) -> tuple[Tensor, bool]:
    """Where smooth noise is high."""
    noise = _smooth_noise(1, size, _log_uniform(random, 2, size / 6), random)[0]
    level = float(np.quantile(noise.numpy(), random.uniform(0.85, 0.98)))  # PyTorch's sorts
    return torch.sigmoid((noise - level) / random.uniform(0.03, 0.3)), False


def _rectangle(size: int, random: Generator) -> tuple[Tensor, bool]:
    """A rotated rectangle."""
    half_width, half_height = _log_uniform(random, 1.5, size / 4), _log_uniform(random, 2, size / 3)
    along, across = _rotated_axes(size, random)
    inside = torch.sigmoid((half_width - along.abs()) / 0.5) * torch.sigmoid(
        (half_height - across.abs()) / 0.5
    )
    return inside, False


def _half_plane(size: int, random: Generator) -> tuple[Tensor, bool]:
    """Everything beyond a wavy line; less than half of the patch."""
    angle, offset = random.uniform(0, 2 * math.pi), random.uniform(0.05, 0.45) * size
    columns, rows = _grid(size)
    distance = (columns - size / 2) * math.cos(angle) + (rows - size / 2) * math.sin(angle) - offset
    waves = _smooth_noise(1, size, random.uniform(2, 8), random)[0] * random.uniform(0, 4)
    return torch.sigmoid((distance + waves) / _log_uniform(random, 0.4, 4)), False


def _draw_content(x: Tensor, index: int, contrast: float, thin: bool, random: Generator) -> Tensor:
    """What fills the shape: `float[C, S, S]`."""
    contents = ("other image", "same image", "tone", "stain", "contrast", "texture", "blur")
    kind = "tone" if thin and random.random() < TONE_SHARE else random.choice(contents)
    image = x[index]
    mean = image.mean(dim=(1, 2), keepdim=True)
    channels, size, _ = image.shape
    match kind:
        case "other image" | "same image":
            source = image if kind == "same image" else x[int(random.integers(len(x)))]
            return _transformed(source, random) + random.uniform(-2, 2) * contrast
        case "tone":
            step = _log_uniform(random, 1.2, 20) * contrast * float(random.choice((-1, 1)))
            colour = np.ones(channels) if random.random() < 0.5 else random.standard_normal(channels)
            return image + step * torch.from_numpy(colour).to(image)[:, None, None]
        case "stain":  # lets through a part of the light, as dirt does, and as objects in an X-ray image do
            transmission = _log_uniform(random, 0.1, 0.9) * (1 - MAX_TINT * random.random(channels))
            return (image + 1) * torch.from_numpy(transmission).to(image)[:, None, None] - 1
        case "contrast":
            gain = _log_uniform(random, 0.2, 4)
            return mean + (image - mean) * gain + random.uniform(-2, 2) * contrast
        case "texture":
            shift = 5 * contrast * torch.from_numpy(random.standard_normal((channels, 1, 1))).to(image)
            noise = _smooth_noise(channels, size, _log_uniform(random, 2, size / 3), random).to(image)
            return mean + shift + noise * _log_uniform(random, 0.5, 5) * contrast
        case _:
            radius = int(random.integers(1, 4))
            return functional.avg_pool2d(
                image[None], 2 * radius + 1, 1, radius, count_include_pad=False
            ).squeeze(0)


def _transformed(image: Tensor, random: Generator) -> Tensor:
    """An image shifted, and at random mirrored and rotated; `float[C, S, S]`."""
    size = image.shape[-1]
    shift = (int(random.integers(size)), int(random.integers(size)))
    image = torch.roll(image, shift, dims=(1, 2))
    flips = [axis for axis in (1, 2) if random.random() < 0.5]
    image = image.flip(flips) if flips else image
    return image.transpose(1, 2) if random.random() < 0.5 else image


def _smooth_noise(channels: int, size: int, cells: float, random: Generator) -> Tensor:
    """Noise of variance about 1 that changes over `size / cells` pixels; `float[channels, S, S]`."""
    coarse = random.standard_normal((1, channels, *[max(2, int(cells)) + 2] * 2), dtype=np.float32)
    enlarge = _bicubic_matrix(coarse.shape[-1], size)
    return enlarge @ torch.from_numpy(coarse[0]) @ enlarge.t()


@lru_cache(maxsize=256)
def _bicubic_matrix(n: int, size: int) -> Tensor:
    """What enlarges n numbers to `size` bicubically, `float[size, n]`: two products are faster than PyTorch's way."""
    identity = torch.eye(n)[None, None]
    return functional.interpolate(identity, size=(size, n), mode="bicubic", align_corners=False)[0, 0]


def _rotated_axes(size: int, random: Generator) -> tuple[Tensor, Tensor]:
    """Coordinates in pixels about a random centre along two rotated axes, `float[S, S]` each."""
    centre, angle = random.uniform(0, size, 2), random.uniform(0, math.pi)
    columns, rows = _grid(size)
    right, down = columns - centre[0], rows - centre[1]
    cosine, sine = math.cos(angle), math.sin(angle)
    return right * cosine + down * sine, down * cosine - right * sine


@lru_cache(maxsize=16)
def _grid(size: int) -> tuple[Tensor, Tensor]:
    """Column and row of the centre of each pixel, `float[S, S]` each; not to be changed in place."""
    rows, columns = torch.meshgrid(_centres(size), _centres(size), indexing="ij")
    return columns.contiguous(), rows.contiguous()


def _centres(size: int) -> Tensor:
    """Of pixels in a row, `float[S]`."""
    return torch.arange(size) + 0.5


def _log_uniform(random: Generator, low: float, high: float) -> float:
    return math.exp(random.uniform(math.log(low), math.log(max(low, high))))
