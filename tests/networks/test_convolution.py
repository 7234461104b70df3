"""The package's convolutions compute what PyTorch's do."""

import pytest
import torch
from torch import nn

from ganomaly.networks.convolution import Conv2d, ConvTranspose2d

SHAPES = [
    # channels in, channels out, kernel, stride, padding, side of the larger image
    (1, 16, 4, 2, 1, 32),
    (3, 16, 4, 2, 1, 32),
    (16, 32, 4, 2, 1, 16),
    (64, 80, 4, 2, 1, 16),
    (96, 64, 4, 2, 1, 4),
    (64, 64, 4, 2, 1, 18),
    (16, 12, 4, 1, 0, 4),
    (16, 16, 3, 1, 1, 8),
    (16, 12, 3, 2, 1, 15),
    (3, 12, 3, 2, 1, 15),
    (16, 12, 1, 1, 0, 4),
]
RELATIVE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_result_and_gradients_are_those_of_pytorch(shape, transposed, dtype, layout):
    channels_in, channels_out, kernel, stride, padding, side = shape
    torch.manual_seed(0)
    if transposed:
        package: nn.Module = ConvTranspose2d(channels_out, channels_in, kernel, stride, padding, bias=False)
        pytorch: nn.Module = nn.ConvTranspose2d(
            channels_out, channels_in, kernel, stride, padding, bias=False
        )
        x = torch.randn(3, channels_out, *[(side + 2 * padding - kernel) // stride + 1] * 2)
    else:
        package = Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        pytorch = nn.Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
        x = torch.randn(3, channels_in, side, side)
    pytorch.load_state_dict(package.state_dict())
    package, pytorch = package.to(memory_format=layout), pytorch.to(memory_format=layout)
    results = []
    for layer in (package, pytorch):
        leaf = x.contiguous(memory_format=layout).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y = layer(leaf)
        y.float().square().mean().backward()
        assert y.dtype == dtype
        results.append((y.detach(), leaf.grad, layer.weight.grad))
        leaf.grad = None
    for actual, expected in zip(*results, strict=True):
        assert actual.shape == expected.shape
        scale = expected.float().abs().max()
        assert (actual.float() - expected.float()).abs().max() <= RELATIVE[dtype] * scale


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])
def test_the_result_without_gradients_is_that_of_pytorch(shape, transposed):
    channels_in, channels_out, kernel, stride, padding, side = shape
    torch.manual_seed(0)
    kinds = (ConvTranspose2d, nn.ConvTranspose2d) if transposed else (Conv2d, nn.Conv2d)
    channels = (channels_out, channels_in) if transposed else (channels_in, channels_out)
    package, pytorch = (kind(*channels, kernel, stride, padding, bias=False) for kind in kinds)
    pytorch.load_state_dict(package.state_dict())
    small = (side + 2 * padding - kernel) // stride + 1
    x = torch.randn(3, channels[0], *[small if transposed else side] * 2)
    with torch.no_grad():
        torch.testing.assert_close(
            package(x), pytorch(x), rtol=1e-4, atol=1e-4 * float(pytorch(x).abs().max())
        )


@pytest.mark.parametrize("shape", [(1, 16, 4, 2, 1, 32), (16, 12, 4, 1, 0, 4), (16, 12, 1, 1, 0, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_activation_may_work_in_place_on_the_result(shape, dtype):
    channels_in, channels_out, kernel, stride, padding, side = shape
    layer = Conv2d(channels_in, channels_out, kernel, stride, padding, bias=False)
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        y = layer(torch.randn(2, channels_in, side, side))
    nn.functional.leaky_relu(y, 0.2, inplace=True).sum().backward()
    assert layer.weight.grad is not None


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("transposed", [False, True], ids=["down", "up"])
def test_a_loss_may_contain_a_gradient(shape, transposed):
    """As the gradient penalty of WGAN-GP does."""
    channels_in, channels_out, kernel, stride, padding, side = shape
    torch.manual_seed(0)
    small = (side + 2 * padding - kernel) // stride + 1
    kinds = (ConvTranspose2d, nn.ConvTranspose2d) if transposed else (Conv2d, nn.Conv2d)
    channels = (channels_out, channels_in) if transposed else (channels_in, channels_out)
    package, pytorch = (kind(*channels, kernel, stride, padding, bias=False) for kind in kinds)
    pytorch.load_state_dict(package.state_dict())
    x = torch.randn(3, channels[0], *[small if transposed else side] * 2)
    results = []
    for layer in (package, pytorch):
        leaf = x.clone().requires_grad_()
        loss = layer(leaf).pow(3).mean()
        gradients = torch.autograd.grad(loss, (leaf, layer.weight), create_graph=True)
        sum(gradient.square().sum() for gradient in gradients).backward()
        results.append((leaf.grad, layer.weight.grad))
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
