"""Apply a fully convolutional function to an image that is too large for one pass, without seams."""

from collections.abc import Callable, Sequence

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
    """Apply a function tile by tile, and put the inner parts of what it gives together.

    The result is that of one pass if no output depends on pixels farther away than `margin`.

    Parameters
    ----------
    function : callable
        From `float[N, C, h, w]` to tensors `float[N, K, h / stride, w / stride]`.
    x : Tensor
        `float[N, C, H, W]`; height and width are multiples of every stride.
    tile, margin : int
        Side of a tile and width of its surroundings in pixels, multiples of every stride.
    strides : sequence of int
        Of the function's outputs.

    Returns
    -------
    list of Tensor
        `float[N, K, H / stride, W / stride]`.
    """
    height, width = x.shape[2:]
    whole: list[Tensor] = []
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            bottom, right = min(top + tile, height), min(left + tile, width)
            from_row, from_column = max(0, top - margin), max(0, left - margin)
            outputs = function(x[:, :, from_row : bottom + margin, from_column : right + margin])
            if not whole:
                whole = [
                    output.new_empty((*output.shape[:2], height // stride, width // stride))
                    for output, stride in zip(outputs, strides, strict=True)
                ]
            for target, output, stride in zip(whole, outputs, strides, strict=True):
                first_row, first_column = (top - from_row) // stride, (left - from_column) // stride
                rows, columns = (bottom - top) // stride, (right - left) // stride
                target[:, :, top // stride : bottom // stride, left // stride : right // stride] = output[
                    :, :, first_row : first_row + rows, first_column : first_column + columns
                ]
    return whole


def reflect_to_multiple(x: Tensor, multiple: int, margin: int) -> Tensor:
    """Mirror an image at its rim: by `margin` at each side, and to the right and below up to a multiple.

    Parameters
    ----------
    x : Tensor
        `float[N, C, H, W]`, of any size: what is smaller than the margin is mirrored again and again.
    multiple, margin : int
        In pixels.
    """
    height, width = x.shape[2:]
    rows, columns = (
        _mirrored(side, margin, margin + (multiple - side % multiple) % multiple).to(x.device)
        for side in (height, width)
    )
    return x.index_select(2, rows).index_select(3, columns)


def _mirrored(side: int, before: int, after: int) -> Tensor:
    """Indices that run back and forth over `side` places, the outermost counted once; `int[n]`."""
    # as tensors, which an exported graph can take the remainder of; the sum of ones is the side
    last = torch.ones(side, dtype=torch.int64).sum() - 1
    period = (2 * last).clamp(min=1)
    place = torch.arange(-before, side + after) % period
    return torch.where(place <= last, place, period - place)
