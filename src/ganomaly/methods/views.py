"""Random views of an image: crops, mirrored or not, with changed colours or at two scales.

The coloured ones are after Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*,
ICML 2020, appendix A.
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ganomaly.methods.randomness import Randomness

ASPECT = 1.33  # largest aspect ratio of a crop
BRIGHTNESS = 0.5  # largest value that is added to x in [−1, 1]
CONTRAST = 0.5  # largest relative change; saturation likewise
GRAY_SHARE = 0.2  # share of the views that lose their colour
TINT = 0.15  # standard deviation of the entries of the matrix that mixes colours
MIRROR_TOLERANCE = 0.05  # log of the ratio of distances up to which mirrored images count as normal


def random_views(x: Tensor, min_crop: float, mirror: bool, randomness: Randomness) -> Tensor:
    """Draw one view of each image.

    Parameters
    ----------
    x : Tensor
        `float[N, C, S, S]`.
    min_crop : float
        Smallest area of a crop, as a share of the image.
    mirror : bool
        Whether half of the views are mirrored left to right.
    randomness : Randomness
        Source of the random numbers.

    Returns
    -------
    Tensor
        `float[N, C, S, S]`, channels last.
    """
    n = len(x)
    area, aspect, left, top, side = randomness.uniform((5, n), x.device)
    area = min_crop + (1 - min_crop) * area
    stretch = ASPECT ** (aspect - 0.5)
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    affine = x.new_zeros(n, 2, 3)  # from the view to the image, both from −1 to 1
    affine[:, 0, 0] = torch.where(side < 0.5, -width, width) if mirror else width
    affine[:, 1, 1] = height
    affine[:, 0, 2] = (2 * left - 1) * (1 - width)
    affine[:, 1, 2] = (2 * top - 1) * (1 - height)
    grid = functional.affine_grid(affine, list(x.shape), align_corners=False)
    view = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _colour_jitter(view, randomness).contiguous(memory_format=torch.channels_last)


def _colour_jitter(x: Tensor, randomness: Randomness) -> Tensor:
    """Change contrast, brightness and, of colour images, saturation and tint."""
    n, channels = x.shape[:2]
    contrast, brightness, saturation, gray = randomness.uniform((4, n, 1, 1, 1), x.device)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * (1 + CONTRAST * (2 * contrast - 1)) + mean + BRIGHTNESS * (2 * brightness - 1)
    if channels == 1:
        return x
    luminance = x.mean(dim=1, keepdim=True)
    colour_gain = torch.where(gray < GRAY_SHARE, 0.0, 1 + CONTRAST * (2 * saturation - 1))
    x = luminance + (x - luminance) * colour_gain
    mixing = torch.eye(channels, device=x.device) + TINT * randomness.normal(
        (n, channels, channels), x.device
    )
    mixing = mixing / mixing.sum(dim=2, keepdim=True).clamp_min(0.3)
    return torch.einsum("nij,njhw->nihw", mixing, x)


def mirror_invariant(x: Tensor) -> bool:
    """Whether images mirrored left to right are as close to normal images as normal images are to each other.

    Photographs of objects are; digits, and parts that always face the same way, are not. The distance is that to the
    nearest other image, at half the size.

    Parameters
    ----------
    x : Tensor
        `float[N, C, S, S]`, normal images.
    """
    if len(x) < 3:
        return False
    images = functional.avg_pool2d(x, 2)
    log_distances = []
    for queries in (images, images.flip(3)):
        distance = torch.cdist(queries.flatten(1), images.flatten(1))
        log_distances.append(distance.fill_diagonal_(torch.inf).amin(dim=1).clamp_min(1e-6).log())
    plain, mirrored = log_distances
    return bool((mirrored - plain).mean() < MIRROR_TOLERANCE)


def at_both_scales(x: Tensor, random: np.random.Generator) -> Tensor:
    """Every other patch at half its size, and a crop of half the size of the others: `float[N, C, S/2, S/2]`.

    Each is mirrored or not, at random.
    """
    half = x.shape[-1] // 2
    patches = []
    for number, patch in enumerate(x):
        top, left = (int(random.integers(half + 1)) for _ in range(2))
        crop = patch[:, top : top + half, left : left + half]
        scaled = crop if number % 2 else functional.avg_pool2d(patch, 2)
        patches.append(scaled.flip([axis for axis in (1, 2) if random.random() < 0.5]))
    return torch.stack(patches)
