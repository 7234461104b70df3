"""The networks are those of the publication."""

import pytest
import torch
from torch import nn

from ganomaly.errors import UsageError
from ganomaly.networks import Decoder, Discriminator, Encoder, check_image_size, initialise_weights


@pytest.mark.parametrize("image_size", [32, 64, 128])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_an_image_goes_to_one_latent_and_back_to_its_size(image_size, channels):
    x = torch.rand(2, channels, image_size, image_size) * 2 - 1
    z = Encoder(image_size, channels, nz=10, ngf=4)(x)
    x_hat = Decoder(image_size, channels, nz=10, ngf=4)(z)
    assert z.shape == (2, 10, 1, 1)
    assert x_hat.shape == x.shape
    assert x_hat.abs().max() <= 1


def test_the_last_features_are_4_by_4_with_twice_the_channels_of_each_level_before():
    logits, features = Discriminator(64, 3, ndf=4)(torch.zeros(5, 3, 64, 64))
    assert logits.shape == (5,)
    assert features.shape == (5, 32, 4, 4)


def test_the_paper_s_networks_have_the_weights_of_the_authors_release():
    """Counted from the layer table of DCGAN at 32 px, gray, nz 100, ngf 64."""

    def count(module: nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    convolutions = 16 * (1 * 64 + 64 * 128 + 128 * 256)
    encoder = convolutions + 16 * 256 * 100 + 2 * (128 + 256)
    decoder = convolutions + 16 * 100 * 256 + 2 * (256 + 128 + 64)
    assert count(Encoder(32, 1, 100, 64)) == encoder
    assert count(Decoder(32, 1, 100, 64)) == decoder
    assert count(Discriminator(32, 1, 64)) == convolutions + 16 * 256 + 2 * (128 + 256)


def test_extra_layers_add_3_by_3_convolutions_and_keep_the_shapes():
    x = torch.zeros(2, 1, 32, 32)
    plain, extra = Encoder(32, 1, 8, 4), Encoder(32, 1, 8, 4, extra_layers=2)
    assert extra(x).shape == plain(x).shape
    added = sum(p.numel() for p in extra.parameters()) - sum(p.numel() for p in plain.parameters())
    assert added == 2 * (9 * 4 * 4 + 2 * 4)
    assert Decoder(32, 1, 8, 4, extra_layers=2)(extra(x)).shape == x.shape


@pytest.mark.parametrize("image_size", [0, 16, 28, 31, 33, 48, 80, 96, 100])
def test_a_size_that_does_not_halve_to_4_by_4_is_refused_with_sizes_that_do(image_size):
    with pytest.raises(UsageError, match=rf"image size {image_size} .* use (32|64)"):
        check_image_size(image_size)


def test_weights_are_drawn_from_the_publication_s_distribution_and_follow_from_the_generator():
    first, second = Encoder(64, 3, 100, 64), Encoder(64, 3, 100, 64)
    for network in (first, second):
        initialise_weights(network, torch.Generator().manual_seed(5))
    for actual, expected in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(actual, expected)
    convolution = first.latent.weight.detach()
    assert convolution.mean().abs() < 1e-3
    assert convolution.std() == pytest.approx(0.02, rel=0.02)
    norms = [layer for layer in first.modules() if isinstance(layer, nn.BatchNorm2d)]
    gains = torch.cat([layer.weight.detach() for layer in norms])
    assert gains.mean() == pytest.approx(1, abs=5e-3)
    assert gains.std() == pytest.approx(0.02, rel=0.2)
    assert all((layer.bias == 0).all() for layer in norms)
