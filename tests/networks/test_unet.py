"""The U-Net is the publication's."""

import pytest
import torch

from ganomaly.errors import UsageError
from ganomaly.networks import UNet


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_reconstruction_has_the_size_and_range_of_the_image(image_size, channels):
    x = torch.rand(2, channels, image_size, image_size) * 2 - 1
    x_hat = UNet(image_size, channels, ngf=4)(x)
    assert x_hat.shape == x.shape
    assert x_hat.abs().max() <= 1


def test_the_layers_are_those_of_pix2pix_without_biases():
    """Counted by hand at 32 px, colour, ngf 64: 64, 128, 256, 512, 512 channels down to 1×1."""
    down = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512) + 2 * (128 + 256 + 512)
    up = 16 * (512 * 512 + 1024 * 256 + 512 * 128 + 256 * 64 + 128 * 3) + 2 * (512 + 256 + 128 + 64)
    assert sum(parameter.numel() for parameter in UNet(32, 3, 64).parameters()) == down + up


def test_skip_connections_bypass_the_bottleneck():
    unet = UNet(32, 1, ngf=4).eval()
    x = torch.rand(2, 1, 32, 32) * 2 - 1
    for level in unet.up:
        level[1].weight.data.zero_()  # batch norm's gain: all features from below are 0
    x_hat = unet(x)
    assert not torch.allclose(x_hat[0], x_hat[1])


def test_a_size_that_does_not_halve_down_is_refused():
    with pytest.raises(UsageError, match="image size 48"):
        UNet(48, 1, 4)
