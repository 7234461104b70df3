"""Convolutions that are faster than PyTorch's own on a processor, with the same weights and results up to rounding.

Square kernels, without bias, dilation or groups. A few places are matrix products; all else is PyTorch's own, and on
a GPU everything is. The ratios below compare PyTorch's layers in one place with the package's, preset `paper` at
32 px, on a processor with AVX-512 and bf16; `docs/performance.md` has more of them, and how they were measured.

- Layers between 4×4 and 1×1: with PyTorch's, a training step takes 1.06 times as long, a prediction 1.08 times.
- The decoder's last layer, to the channels of an image: with PyTorch's, a prediction takes 1.06 times as long.
- The weights' gradients of the layers between, in bf16: the threads of oneDNN's kernel wait for one another in busy
  loops. With PyTorch's layers and two threads on a busy processor, a training step takes 5 times as long; with
  PyTorch's layers everywhere, 11 times. With one thread the times are the same.
- The first layer, from the channels of an image, without gradients: with PyTorch's, a prediction takes 0.98 times as
  long, but scores of models of earlier versions change by up to 2·10⁻⁶ of their value.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn import functional

FEW_CHANNELS = 8


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` for square kernels, without bias, dilation or groups."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `float[N, C, H, W]`."""
        if x.device.type != "cpu" or torch.compiler.is_exporting():
            return super().forward(x)
        if self.padding == (0, 0) and x.shape[2:] == self.kernel_size:
            return (_channels_last(x).flatten(1) @ _channels_last(self.weight).flatten(1).t())[
                :, :, None, None
            ]
        if self.in_channels <= FEW_CHANNELS:
            return super().forward(x) if torch.is_grad_enabled() else _from_few_channels(x, self)
        if torch.is_autocast_enabled("cpu"):
            return _in_low_precision(x, self)
        return super().forward(x)


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` for square kernels, without bias, dilation or groups."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve `float[N, C, H, W]`, transposed."""
        exporting = torch.compiler.is_exporting()
        if output_size is not None or (x.device.type != "cpu" and not exporting):
            return super().forward(x, output_size)
        if self.padding == (0, 0) and x.shape[2:] == (1, 1):
            weight = _channels_last(self.weight)  # [C, kernel, kernel, K]
            return (x.flatten(1) @ weight.flatten(1)).view(-1, *weight.shape[1:]).permute(0, 3, 1, 2)
        if exporting:
            return super().forward(x)
        if self.out_channels <= FEW_CHANNELS:
            return _to_few_channels(x, self)
        if torch.is_autocast_enabled("cpu"):
            return _in_low_precision(x, self)
        return super().forward(x)


def _geometry(layer: Conv2d | ConvTranspose2d) -> tuple[int, int, int]:
    """Kernel, stride and padding."""
    return layer.kernel_size[0], layer.stride[0], cast("int", layer.padding[0])


def _channels_last(x: Tensor) -> Tensor:
    """`[N, C, H, W]` as `[N, H, W, C]`; that is how a channels-last tensor is stored."""
    return x.permute(0, 2, 3, 1)


def _from_few_channels(x: Tensor, layer: Conv2d) -> Tensor:
    """Convolution as a product of patches and weight."""
    kernel, stride, padding = _geometry(layer)
    padded = functional.pad(x, (padding, padding, padding, padding))
    height, width = ((side - kernel) // stride + 1 for side in padded.shape[2:])
    of_image, of_channel, of_row, of_column = padded.stride()
    columns = padded.as_strided(
        (kernel, kernel, x.shape[1], len(x), height, width),
        (of_row, of_column, of_channel, of_image, stride * of_row, stride * of_column),
    )
    patches = columns.reshape(kernel * kernel * x.shape[1], -1).t()  # [N·h·w, kernel²·C]
    y = patches @ _channels_last(layer.weight).flatten(1).t()
    return y.view(len(x), height, width, -1).permute(0, 3, 1, 2)


def _to_few_channels(x: Tensor, layer: ConvTranspose2d) -> Tensor:
    """Transposed convolution as a product and the sum of overlapping patches."""
    kernel, stride, padding = _geometry(layer)
    n, channels, height, width = x.shape
    size = ((height - 1) * stride + kernel - 2 * padding, (width - 1) * stride + kernel - 2 * padding)
    patches = layer.weight.flatten(1).t() @ _channels_last(x).reshape(-1, channels).t()  # [K·kernel², N·H·W]
    patches = patches.view(len(patches), n, -1).transpose(0, 1)
    y = functional.fold(patches, size, kernel, padding=padding, stride=stride)
    return y.contiguous(memory_format=torch.channels_last)


def _in_low_precision(x: Tensor, layer: Conv2d | ConvTranspose2d) -> Tensor:
    """What autocast makes of a layer, but for the gradient of its weight."""
    dtype = torch.get_autocast_dtype("cpu")
    apply: Any = _LowPrecisionConvolution.apply  # PyTorch does not type it
    y: Tensor = apply(x.to(dtype), layer.weight.to(dtype), layer)
    return y


class _LowPrecisionConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layer: Conv2d | ConvTranspose2d) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.layer = layer
        convolve = functional.conv_transpose2d if layer.transposed else functional.conv2d
        return convolve(x, weight, stride=layer.stride, padding=cast("tuple[int, int]", layer.padding))

    @staticmethod
    @once_differentiable  # gradients of gradients are computed in fp32
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,), (x, weight), layer = gradients, ctx.saved_tensors, ctx.layer
        x_gradient = weight_gradient = None
        if ctx.needs_input_grad[0]:
            # the gradient of a convolution is a transposed one, and the other way round
            convolve = functional.conv2d if layer.transposed else functional.conv_transpose2d
            x_gradient = convolve(gradient, weight, stride=layer.stride, padding=layer.padding)
        # `needs_input_grad` is of the forward pass; the layer may have been frozen since
        if ctx.needs_input_grad[1] and layer.weight.requires_grad:
            small, large = (x, gradient) if layer.transposed else (gradient, x)
            weight_gradient = _weight_gradient(small, large, *_geometry(layer))
        return x_gradient, weight_gradient, None


def _weight_gradient(small: Tensor, large: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Gradient of the weight `[K, C, kernel, kernel]` between `[N, K, h, w]` and `[N, C, H, W]`."""
    n, channels_out, height, width = small.shape
    channels_in = large.shape[1]
    # A band holds `stride` rows of the padded image, as patches of the kernel's width. The kernel's height is `bands`
    # bands; what it covers one row of positions further down begins one band later in memory.
    bands = -(-kernel // stride)
    below = (height + bands - 1) * stride - large.shape[2] - padding
    padded = functional.pad(_channels_last(large), (0, 0, padding, padding, padding, below))
    of_image, of_row, of_column, of_channel = padded.stride()
    copies = padded.as_strided(
        (height + bands - 1, n, width, stride, kernel * channels_in),
        (stride * of_row, of_image, stride * of_column, of_row, of_channel),
    ).contiguous()
    rows = small.permute(2, 0, 3, 1).reshape(-1, channels_out)  # [h·N·w, K]
    products = [
        rows.t() @ copies[band : band + height].view(len(rows), -1)  # [K, stride·kernel·C]
        for band in range(bands)
    ]
    product = torch.cat(products, dim=1)[:, : kernel * kernel * channels_in]
    return product.view(channels_out, kernel, kernel, channels_in).permute(0, 3, 1, 2)
