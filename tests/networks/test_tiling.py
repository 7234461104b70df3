"""A large image in tiles has the outputs of one pass."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from ganomaly.networks import apply_in_tiles, reflect_to_multiple


@settings(max_examples=40)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([8, 16, 40]))
def test_outputs_in_tiles_are_those_of_one_pass(rows: int, columns: int, tile: int) -> None:
    generator = torch.Generator().manual_seed(0)
    blur, halve = nn.Conv2d(2, 3, 5, padding=2), nn.Conv2d(2, 1, 4, stride=2, padding=1)
    x = torch.rand(1, 2, 8 * rows, 8 * columns, generator=generator)

    def function(part: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return blur(part), halve(part)

    with torch.no_grad():
        whole = function(x)
        tiled = apply_in_tiles(function, x, tile=tile, margin=8, strides=(1, 2))
    for one, other in zip(whole, tiled, strict=True):
        torch.testing.assert_close(other, one)


@pytest.mark.parametrize("side", [24, 32, 40, 200])
def test_the_function_gets_no_more_pixels_than_a_tile_inside_the_image_with_its_margins(side: int) -> None:
    sides: list[int] = []

    def function(part: torch.Tensor) -> tuple[torch.Tensor]:
        sides.extend(part.shape[2:])
        return (part,)

    x = torch.rand(1, 1, side, side)
    (joined,) = apply_in_tiles(function, x, tile=16, margin=8, strides=(1,))
    assert torch.equal(joined, x)
    assert max(sides) == min(side, 32)
    assert len(sides) // 2 == (1 if side <= 32 else max(2, -(-(side - 16) // 16)) ** 2)


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (17, 16), (50, 33)])
def test_an_image_of_any_size_is_reflected_up_to_a_multiple(size: tuple[int, int]) -> None:
    x = torch.rand(1, 2, *size)
    padded = reflect_to_multiple(x, 16, 16)
    assert padded.shape[2] % 16 == padded.shape[3] % 16 == 0
    torch.testing.assert_close(padded[:, :, 16 : 16 + size[0], 16 : 16 + size[1]], x)
    if min(size) > 1:
        torch.testing.assert_close(padded[:, :, 15, 16 : 16 + size[1]], x[:, :, 1])
