"""Apply fully convolutional networks to images that are too large for one pass."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


def apply_in_tiles(
    function: Callable[[Tensor], Sequence[Tensor]],
    x: Tensor,
    *,
    tile: int,
    margin: int,
    strides: Sequence[int],
) -> list[Tensor]:
    """Apply a function to overlapping tiles of an image, and join the outputs.

    The result is that of one pass if no output depends on pixels farther away than `margin`. The function gets
    `tile + 2 * margin` pixels a side at most: a tile at the edge of the image needs one margin less, and is larger.

    Parameters
    ----------
    function : callable
        From `float[N, C, h, w]` to tensors `float[N, K, h / stride, w / stride]`.
    x : Tensor
        `float[N, C, H, W]`; height and width are multiples of every stride.
    tile, margin : int
        Side of a tile inside the image and width of the margin around it in pixels, multiples of every stride.
    strides : sequence of int
        Strides of the function's outputs.

    Returns
    -------
    list of Tensor
        `float[N, K, H / stride, W / stride]`.
    """
    height, width = x.shape[2:]
    joined: list[Tensor] = []
    for top, bottom in _divided(height, tile, margin):
        for left, right in _divided(width, tile, margin):
            tile_top, tile_left = max(0, top - margin), max(0, left - margin)
            outputs = function(x[:, :, tile_top : bottom + margin, tile_left : right + margin])
            if not joined:
                joined = [
                    output.new_empty((*output.shape[:2], height // stride, width // stride))
                    for output, stride in zip(outputs, strides, strict=True)
                ]
            for target, output, stride in zip(joined, outputs, strides, strict=True):
                first_row, first_column = (top - tile_top) // stride, (left - tile_left) // stride
                rows, columns = (bottom - top) // stride, (right - left) // stride
                target[:, :, top // stride : bottom // stride, left // stride : right // stride] = output[
                    :, :, first_row : first_row + rows, first_column : first_column + columns
                ]
    return joined


def _divided(side: int, tile: int, margin: int) -> list[tuple[int, int]]:
    """Where each tile begins and ends along a side."""
    if side <= tile + 2 * margin:
        return [(0, side)]
    bounds = [0, tile + margin]
    while side - bounds[-1] > tile + margin:
        bounds.append(bounds[-1] + tile)
    return list(pairwise([*bounds, side]))


def reflect_to_multiple(x: Tensor, multiple: int, margin: int) -> Tensor:
    """Pad an image by reflection: `margin` at each side, and to the right and below up to a multiple.

    Parameters
    ----------
    x : Tensor
        `float[N, C, H, W]`, of any size: an image smaller than the margin is reflected repeatedly.
    multiple, margin : int
        In pixels.
    """
    indices = []
    for side in x.shape[2:]:
        # up to multiple · ⌈side / multiple⌉; written with remainders, it takes the exporter's algebra longer
        after = margin + (side + multiple - 1) // multiple * multiple - side
        indices.append(_reflected_indices(side, margin, after).to(x.device))
    rows, columns = indices
    return x.index_select(2, rows).index_select(3, columns)


def _reflected_indices(side: int, before: int, after: int) -> Tensor:
    """Indices of `side` pixels and of their reflections, without repeating the outermost pixel; `int[n]`."""
    # tensors, because an exported graph has their remainder; the sum of ones is the side
    last = torch.ones(side, dtype=torch.int64).sum() - 1
    period = (2 * last).clamp(min=1)
    position = torch.arange(-before, side + after) % period
    return torch.where(position <= last, position, period - position)
