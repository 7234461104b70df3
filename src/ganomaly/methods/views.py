"""Two views of an image: crops, mirrored or not, in other colours; what stays the same in them is what it shows.

After Chen et al., *A Simple Framework for Contrastive Learning of Visual Representations*, ICML 2020, appendix A.
"""

import torch
from torch import Tensor
from torch.nn import functional

from ganomaly.methods.randomness import Randomness

ASPECT = 1.33  # widest side ratio of a crop
BRIGHTNESS = 0.5  # most that is added; x lies in [−1, 1]
CONTRAST = 0.5  # share by which it changes at most; saturation likewise
GRAY_SHARE = 0.2  # of views without colour
TINT = 0.15  # spread of the entries of the matrix that mixes colours
MOST_UNLIKE = 0.05  # log of the ratio of distances above which mirrored images are no images of the kind


def random_views(x: Tensor, smallest: float, mirror: bool, randomness: Randomness) -> Tensor:
    """One view of each image.

    Parameters
    ----------
    x : Tensor
        `float[N, C, S, S]`.
    smallest : float
        Share of the area that a crop has at least.
    mirror : bool
        Whether half of the views are mirrored left to right.
    randomness : Randomness
        What is drawn from.

    Returns
    -------
    Tensor
        `float[N, C, S, S]`, channels last.
    """
    n = len(x)
    area, aspect, left, top, side = randomness.uniform((5, n), x.device)
    area = smallest + (1 - smallest) * area
    stretch = ASPECT ** (aspect - 0.5)
    width, height = (area.sqrt() * stretch).clamp(max=1), (area.sqrt() / stretch).clamp(max=1)
    where = x.new_zeros(n, 2, 3)  # affine maps from the view to the image, both from −1 to 1
    where[:, 0, 0] = torch.where(side < 0.5, -width, width) if mirror else width
    where[:, 1, 1] = height
    where[:, 0, 2] = (2 * left - 1) * (1 - width)
    where[:, 1, 2] = (2 * top - 1) * (1 - height)
    grid = functional.affine_grid(where, list(x.shape), align_corners=False)
    view = functional.grid_sample(x, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _in_other_colours(view, randomness).contiguous(memory_format=torch.channels_last)


def _in_other_colours(x: Tensor, randomness: Randomness) -> Tensor:
    """Change contrast, brightness and, where there are colours, saturation and tint of each image."""
    n, channels = x.shape[:2]
    contrast, brightness, saturation, gray = randomness.uniform((4, n, 1, 1, 1), x.device)
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = (x - mean) * (1 + CONTRAST * (2 * contrast - 1)) + mean + BRIGHTNESS * (2 * brightness - 1)
    if channels == 1:
        return x
    luminance = x.mean(dim=1, keepdim=True)
    kept = torch.where(gray < GRAY_SHARE, 0.0, 1 + CONTRAST * (2 * saturation - 1))
    x = luminance + (x - luminance) * kept
    mixing = torch.eye(channels, device=x.device) + TINT * randomness.normal(
        (n, channels, channels), x.device
    )
    mixing = mixing / mixing.sum(dim=2, keepdim=True).clamp_min(0.3)
    return torch.einsum("nij,njhw->nihw", mixing, x)


def mirrored_is_alike(x: Tensor) -> bool:
    """Whether images mirrored left to right are as near to others of the kind as images are to each other.

    Photographs of things are; digits, and parts that always lie the same way round, are not. What is compared is the
    distance to the nearest of the other images, at half the size.

    Parameters
    ----------
    x : Tensor
        `float[N, C, S, S]`, some normal images.
    """
    if len(x) < 3:
        return False
    rows = functional.avg_pool2d(x, 2)
    nearest = []
    for each in (rows, rows.flip(3)):
        distance = torch.cdist(each.flatten(1), rows.flatten(1))
        nearest.append(distance.fill_diagonal_(torch.inf).amin(dim=1).clamp_min(1e-6).log())
    return bool((nearest[1] - nearest[0]).mean() < MOST_UNLIKE)
