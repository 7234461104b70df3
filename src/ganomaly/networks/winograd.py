"""4×4 convolutions of stride 2 with fewer multiplications: Winograd's minimal filtering F(2×2, 2×2).

Taken in blocks of 2×2 pixels, such a convolution is one of 2×2 with stride 1 over four times the channels. Two
results of a filter of two taps along one axis then take three products instead of four:

    y₀ = d₀g₀ + d₁g₁ = m₁ + m₂        m₁ = (d₀ − d₁) g₀
    y₁ = d₁g₀ + d₂g₁ = m₂ + m₃        m₂ = d₁ (g₀ + g₁)        m₃ = (d₂ − d₁) g₁

and along both axes nine instead of sixteen. The terms are sums and differences of two numbers, so the result is as
exact as the plain one. Image, weight and result are brought to terms and back by linear maps; the gradients take
the transposed maps and the same terms, so what the forward pass has computed serves the backward pass too.

Source: Lavin, Gray, *Fast Algorithms for Convolutional Neural Networks*, CVPR 2016.

Shapes: image `[N, C, 4t, 4t]`, weight `[K, C, 4, 4]`, result `[N, K, 2t, 2t]`; the terms of all three are `[9, …]`.
"""

import torch
from torch import Tensor
from torch.nn import functional

FEWEST_CHANNELS = 64  # below, the maps take longer than the products that they spare
MOST_TERMS = 2**24  # numbers; larger images would fill memory, and the caches long before


def pays(image_side: int, images: int, weight: Tensor, stride: int, padding: int) -> bool:
    """Whether the layer is such a convolution, and large enough, but not too large."""
    channels_out, channels_in, kernel, _ = weight.shape
    return (
        (kernel, stride, padding) == (4, 2, 1)
        and image_side % 4 == 0
        and weight.dtype == torch.float32
        and min(channels_out, channels_in) >= FEWEST_CHANNELS
        and images * channels_in * image_side**2 * 9 // 4 <= MOST_TERMS
    )


def image_terms(x: Tensor) -> Tensor:
    """d₀ − d₁, d₁ and d₂ − d₁ along both axes: `[N, C, 4t, 4t]` to `[9, N·t·t, 4·C]`."""
    n, channels, side, _ = x.shape
    tiles = side // 4
    padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, 1, 1, 1, 1))
    blocks = padded.view(n, 2 * tiles + 1, 2, 2 * tiles + 1, 2, channels)
    terms = x.new_empty(3, 3, n, tiles, tiles, 2, 2, channels)
    upper, middle, lower = blocks[:, 0:-1:2], blocks[:, 1::2], blocks[:, 2::2]
    for rows, both in zip((upper - middle, middle, lower - middle), terms, strict=True):
        left, centre, right = rows[:, :, :, 0:-1:2], rows[:, :, :, 1::2], rows[:, :, :, 2::2]
        torch.sub(left, centre, out=both[0].movedim(2, 3))
        both[1].movedim(2, 3).copy_(centre)
        torch.sub(right, centre, out=both[2].movedim(2, 3))
    return terms.view(9, n * tiles * tiles, 4 * channels)


def image_from_terms(terms: Tensor, n: int) -> Tensor:
    """The transposed map of `image_terms`: `[9, N·t·t, 4·C]` to `[N, C, 4t, 4t]`, channels last."""
    tiles, channels = round((terms.shape[1] // n) ** 0.5), terms.shape[2] // 4
    terms = terms.view(3, 3, n, tiles, tiles, 2, 2, channels)
    rows = terms.new_empty(3, n, tiles, 2, 2 * tiles + 1, 2, channels)
    blocks = terms.new_empty(n, 2 * tiles + 1, 2, 2 * tiles + 1, 2, channels)
    for row, both in zip(rows, terms, strict=True):
        _from_differences(both.movedim(3, 2), row.movedim(3, 1))
    _from_differences(rows, blocks)
    padded = blocks.view(n, 4 * tiles + 2, 4 * tiles + 2, channels).permute(0, 3, 1, 2)
    return padded[:, :, 1:-1, 1:-1].contiguous(memory_format=torch.channels_last)


def weight_terms(weight: Tensor) -> Tensor:
    """g₀, g₀ + g₁ and g₁ along both axes: `[K, C, 4, 4]` to `[9, K, 4·C]`."""
    channels_out, channels_in = weight.shape[:2]
    blocks = weight.permute(0, 2, 3, 1).reshape(channels_out, 2, 2, 2, 2, channels_in)
    rows = _sums(blocks[:, 0], blocks[:, 1], dim=0)  # [3, K, 2, 2 blocks, 2, C]
    terms = _sums(rows[:, :, :, 0], rows[:, :, :, 1], dim=1)
    return terms.reshape(9, channels_out, 4 * channels_in)


def weight_from_terms(terms: Tensor) -> Tensor:
    """The transposed map of `weight_terms`: `[9, K, 4·C]` to `[K, C, 4, 4]`, channels last."""
    channels_out, channels_in = terms.shape[1], terms.shape[2] // 4
    terms = terms.view(3, 3, channels_out, 2, 2, channels_in)
    rows = torch.stack([terms[0] + terms[1], terms[1] + terms[2]])
    blocks = torch.stack([rows[:, 0] + rows[:, 1], rows[:, 1] + rows[:, 2]], dim=1)  # [2, 2, K, 2, 2, C]
    weight = blocks.permute(2, 0, 3, 1, 4, 5).reshape(channels_out, 4, 4, channels_in)
    return weight.permute(0, 3, 1, 2)


def result_from_terms(terms: Tensor, n: int) -> Tensor:
    """m₁ + m₂ and m₂ + m₃ along both axes: `[9, N·t·t, K]` to `[N, K, 2t, 2t]`, channels last and no view."""
    tiles, channels = round((terms.shape[1] // n) ** 0.5), terms.shape[2]
    terms = terms.view(3, 3, n, tiles, tiles, channels)
    y = torch.empty((n, channels, 2 * tiles, 2 * tiles), dtype=terms.dtype, memory_format=torch.channels_last)
    pixels = y.permute(0, 2, 3, 1).view(n, tiles, 2, tiles, 2, channels)
    for row in (0, 1):
        columns = terms[row] + terms[row + 1]
        for column in (0, 1):
            torch.add(columns[column], columns[column + 1], out=pixels[:, :, row, :, column])
    return y


def result_terms(y: Tensor) -> Tensor:
    """The transposed map of `result_from_terms`: `[N, K, 2t, 2t]` to `[9, N·t·t, K]`."""
    n, channels, side, _ = y.shape
    tiles = side // 2
    pixels = y.permute(0, 2, 3, 1).reshape(n, tiles, 2, tiles, 2, channels)
    terms = y.new_empty(3, 3, n, tiles, tiles, channels)
    upper, lower = pixels[:, :, 0], pixels[:, :, 1]
    for row, both in zip((upper, upper + lower, lower), terms, strict=True):
        left, right = row[:, :, :, 0], row[:, :, :, 1]
        both[0].copy_(left)
        torch.add(left, right, out=both[1])
        both[2].copy_(right)
    return terms.view(9, n * tiles * tiles, channels)


def _from_differences(terms: Tensor, into: Tensor) -> None:
    """From d₀ − d₁, d₁ and d₂ − d₁ the transposed way: `[3, N, t, …]` to `[N, 2t + 1, …]` along the second axis."""
    middle = into[:, 1::2]
    torch.sub(terms[1], terms[0], out=middle)
    middle.sub_(terms[2])
    into[:, 0:-1:2].copy_(terms[0])
    into[:, -1].zero_()
    into[:, 2::2].add_(terms[2])


def _sums(first: Tensor, second: Tensor, dim: int) -> Tensor:
    return torch.stack([first, first + second, second], dim=dim)
