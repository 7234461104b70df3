"""Convolutions that are quick on a processor: the same numbers as PyTorch's own, laid out as matrix products.

PyTorch's processor kernels lose time in three places of the pyramids: with one to four channels at the image
(which also lose the channels-last layout for all that follows), at the 4×4 ↔ 1×1 end, and in the gradient of
the weights. There patches and matrix products do better; everywhere else, and on a GPU, PyTorch's own kernels
run. In training, in fp32, the layers between take Winograd's way (`winograd.py`). Images are square.
`docs/performance.md` has the figures.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from ganomaly.networks import winograd

FEW_CHANNELS = 8


class Conv2d(nn.Conv2d):
    """`torch.nn.Conv2d` without bias, dilation or groups; same weights, same result up to rounding."""

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `float[N, C, H, W]`."""
        if not _here(x):
            return super().forward(x)
        x, weight = _in_working_precision(x, self.weight)
        return _apply(_Convolution, x, weight, _layout(self, x.shape[2], len(x), weight))


class ConvTranspose2d(nn.ConvTranspose2d):
    """`torch.nn.ConvTranspose2d` without bias, dilation or groups; same weights, same result up to rounding."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve `float[N, C, H, W]`, transposed."""
        if torch.compiler.is_exporting() and self.padding[0] == 0 and x.shape[2:] == (1, 1):
            # a matrix product, which everybody's kernels compute quicker
            return (x.flatten(1) @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
        if not _here(x) or output_size is not None:
            return super().forward(x, output_size)
        x, weight = _in_working_precision(x, self.weight)
        return _apply(_TransposedConvolution, x, weight, _layout(self, 2 * x.shape[2], len(x), weight))


def _here(x: Tensor) -> bool:
    """Whether the matrix products pay: on a processor, and not in a graph for somebody else's kernels."""
    return x.device.type == "cpu" and not torch.compiler.is_exporting()


def _in_working_precision(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What autocast does for PyTorch's own convolutions."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        return x.to(dtype), weight.to(dtype)
    return x, weight


# Convolution, transposed convolution and gradient of the weight are each linear in both their tensors, and the
# gradients of each are the other two. Written so, a loss may contain gradients (WGAN-GP's penalty).
#
# PyTorch settles in the forward pass whose gradients a Python function computes; a layer may be frozen after that
# and before the backward pass. With `fewer` multiplications the terms of the forward pass are kept for the backward
# pass, unless the loss contains gradients, where the functions themselves are needed.


class _Layout(NamedTuple):
    """How a kernel is laid over the image."""

    stride: int
    padding: int
    layer: nn.Conv2d | nn.ConvTranspose2d | None = None  # whose weight it is, if it is a layer's
    fewer: bool = False  # multiplications, by `winograd`

    def plain(self) -> "_Layout":
        return self._replace(fewer=False)


def _layout(layer: nn.Conv2d | nn.ConvTranspose2d, image_side: int, images: int, weight: Tensor) -> _Layout:
    stride, padding = layer.stride[0], int(layer.padding[0])
    fewer = torch.is_grad_enabled() and winograd.pays(image_side, images, weight, stride, padding)
    return _Layout(stride, padding, layer, fewer)


def _apply(function: Any, *arguments: Any) -> Tensor:
    """Apply a `Function`; Any, for PyTorch does not type its `apply`."""
    y: Tensor = function.apply(*arguments)
    return y


def _learns(ctx: Any) -> bool:
    layer = ctx.layout.layer
    return bool(ctx.needs_input_grad[1]) and (layer is None or layer.weight.requires_grad)


def _has_terms(ctx: Any) -> bool:
    return len(ctx.saved_tensors) > 2 and not torch.is_grad_enabled()


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        if not layout.fewer:
            ctx.save_for_backward(x, weight)
            return _convolve(x, weight, layout.stride, layout.padding)
        terms, weights = winograd.image_terms(x), winograd.weight_terms(weight)
        ctx.save_for_backward(x, weight, terms, weights)
        return winograd.result_from_terms(torch.bmm(terms, weights.mT), len(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        gradient_x = gradient_weight = None
        if _has_terms(ctx):
            _, _, terms, weights = ctx.saved_tensors
            slopes = winograd.result_terms(gradient)
            if ctx.needs_input_grad[0]:
                gradient_x = winograd.image_from_terms(torch.bmm(slopes, weights), len(gradient))
            if _learns(ctx):
                gradient_weight = winograd.weight_from_terms(torch.bmm(slopes.mT, terms))
            return gradient_x, gradient_weight, None
        x, weight = ctx.saved_tensors[:2]
        if ctx.needs_input_grad[0]:
            gradient_x = _apply(_TransposedConvolution, gradient, weight, ctx.layout.plain())
        if _learns(ctx):
            gradient_weight = _apply(_WeightGradient, gradient, x, weight.shape[2], ctx.layout)
        return gradient_x, gradient_weight, None


class _TransposedConvolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, layout: _Layout) -> Tensor:
        ctx.layout = layout
        if not layout.fewer:
            ctx.save_for_backward(x, weight)
            return _convolve_transposed(x, weight, layout.stride, layout.padding)
        terms, weights = winograd.result_terms(x), winograd.weight_terms(weight)
        ctx.save_for_backward(x, weight, terms, weights)
        return winograd.image_from_terms(torch.bmm(terms, weights), len(x))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        gradient_x = gradient_weight = None
        if _has_terms(ctx):
            _, _, terms, weights = ctx.saved_tensors
            slopes = winograd.image_terms(gradient)
            if ctx.needs_input_grad[0]:
                gradient_x = winograd.result_from_terms(torch.bmm(slopes, weights.mT), len(gradient))
            if _learns(ctx):
                gradient_weight = winograd.weight_from_terms(torch.bmm(terms.mT, slopes))
            return gradient_x, gradient_weight, None
        x, weight = ctx.saved_tensors[:2]
        if ctx.needs_input_grad[0]:
            gradient_x = _apply(_Convolution, gradient, weight, ctx.layout.plain())
        if _learns(ctx):
            # the transposed convolution's output is the convolution's input, and the other way round
            gradient_weight = _apply(_WeightGradient, x, gradient, weight.shape[2], ctx.layout)
        return gradient_x, gradient_weight, None


class _WeightGradient(Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, x: Tensor, kernel: int, layout: _Layout) -> Tensor:
        ctx.save_for_backward(gradient, x)
        # what is convolved with here is a gradient of the weight, and so no layer's
        ctx.layout = _Layout(layout.stride, layout.padding)
        return _weight_gradient(gradient, x, kernel, layout.stride, layout.padding)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        (weight,) = gradients
        gradient, x = ctx.saved_tensors
        gradient_gradient = gradient_x = None
        if ctx.needs_input_grad[0]:
            gradient_gradient = _apply(_Convolution, x, weight, ctx.layout)
        if ctx.needs_input_grad[1]:
            gradient_x = _apply(_TransposedConvolution, gradient, weight, ctx.layout)
        return gradient_gradient, gradient_x, None, None


def _convolve(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    channels_out, channels_in, kernel, _ = weight.shape
    if channels_in > FEW_CHANNELS and not _covers(x, kernel, padding):
        return functional.conv2d(x, weight, stride=stride, padding=padding)
    side = (x.shape[2] + 2 * padding - kernel) // stride + 1
    y, rows = _output(x, channels_out, side)
    torch.mm(_patches(x, kernel, stride, padding), _matrix(weight).t(), out=rows.view(-1, channels_out))
    return y


def _convolve_transposed(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    channels_in, channels_out, kernel, _ = weight.shape
    if padding == 0 and x.shape[2] == 1:
        y, rows = _output(x, channels_out, kernel)
        torch.mm(x.reshape(len(x), channels_in), _matrix(weight), out=rows.view(len(x), -1))
        return y
    if channels_out > FEW_CHANNELS:
        y = functional.conv_transpose2d(x, weight, stride=stride, padding=padding)
        return y.contiguous(memory_format=torch.channels_last)
    side = (x.shape[2] - 1) * stride + kernel - 2 * padding
    rows = x.permute(0, 2, 3, 1).reshape(-1, channels_in)
    patches = weight.reshape(channels_in, -1).t() @ rows.t()  # [channels_out·kernel², N·h·w]
    patches = patches.view(len(patches), len(x), -1).transpose(0, 1)
    y = functional.fold(patches, (side, side), kernel, stride=stride, padding=padding)
    return y.contiguous(memory_format=torch.channels_last)


def _weight_gradient(gradient: Tensor, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """Gradient of the weight of a convolution from x, `[N, C, H, W]`, to where `gradient`, `[N, K, h, w]`, is."""
    channels_out, channels_in, side = gradient.shape[1], x.shape[1], gradient.shape[2]
    if channels_in <= FEW_CHANNELS or _covers(x, kernel, padding):
        rows = gradient.permute(0, 2, 3, 1).reshape(-1, channels_out)  # [N·h·w, K]
        product = rows.t() @ _patches(x, kernel, stride, padding)
    else:
        # Rows of patches lie above each other, so that a step of `stride` rows down is a shift by one run of memory:
        # half the patch matrix serves for a kernel of twice the stride.
        steps = -(-kernel // stride)
        below = (side + steps - 1) * stride - x.shape[2] - padding
        padded = functional.pad(x.permute(0, 2, 3, 1), (0, 0, padding, padding, padding, below))
        image, row, column, channel = padded.stride()
        bands = padded.as_strided(
            (side + steps - 1, len(x), side, stride, kernel * channels_in),
            (stride * row, image, stride * column, row, channel),
        ).contiguous()
        rows = gradient.permute(2, 0, 3, 1).reshape(-1, channels_out)  # [h·N·w, K]
        products = [
            rows.t() @ bands[step : step + side].view(len(rows), -1)  # [K, stride·kernel·C]
            for step in range(steps)
        ]
        product = torch.cat(products, dim=1)[:, : kernel * kernel * channels_in]
    return product.view(channels_out, kernel, kernel, channels_in).permute(0, 3, 1, 2)


def _covers(x: Tensor, kernel: int, padding: int) -> bool:
    """Whether the kernel covers the whole image."""
    return padding == 0 and x.shape[2] == kernel


def _output(x: Tensor, channels: int, side: int) -> tuple[Tensor, Tensor]:
    """An empty channels-last `[N, channels, side, side]` and its view `[N, side, side, channels]`.

    The tensor is no view itself, so that the activation after it may work in place.
    """
    y = torch.empty(
        (len(x), channels, side, side), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
    )
    return y, y.permute(0, 2, 3, 1)


def _matrix(weight: Tensor) -> Tensor:
    """Weight `[K, C, kernel, kernel]` as `[K, kernel²·C]`; a view if it is channels last."""
    return weight.permute(0, 2, 3, 1).reshape(len(weight), -1)


def _patches(x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """The patches under the kernel as rows: `[N, C, H, W]` to `[N·h·w, kernel²·C]`."""
    if _covers(x, kernel, padding):
        return x.permute(0, 2, 3, 1).reshape(len(x), -1)
    padded = functional.pad(x, (padding, padding, padding, padding))
    side = (padded.shape[2] - kernel) // stride + 1
    image, channel, row, column = padded.stride()
    # few channels make short rows; columns are copied faster
    columns = padded.as_strided(
        (kernel, kernel, x.shape[1], len(x), side, side),
        (row, column, channel, image, stride * row, stride * column),
    )
    return columns.reshape(kernel * kernel * x.shape[1], -1).t()
