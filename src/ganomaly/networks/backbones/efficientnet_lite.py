"""EfficientNet-Lite: inverted bottlenecks (MBConv) with ReLU6 and without squeeze-and-excitation.

Source: Tan, Le, *EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks*, ICML 2019; the Lite
variants are its authors' for mobile processors (2020). Modules have the names of the published PyTorch weights, so
that their state dict loads as it is.
"""

import math
from collections.abc import Collection
from itertools import pairwise
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

PIXEL_MEAN, PIXEL_STD = 127.0, 128.0  # the network input is (pixel − mean) / std, pixels from 0 to 255
_STEM_CHANNELS, _HEAD_CHANNELS = 32, 1280  # the same in all Lite variants
_EPSILON = 1e-3  # of batch norm, as in TensorFlow


class Stage(NamedTuple):
    """Blocks of one width; the first one has the stride."""

    repeats: int
    kernel_size: int
    stride: int
    expansion: int
    channels: int


STAGES = (
    Stage(1, 3, 1, 1, 16),
    Stage(2, 3, 2, 6, 24),
    Stage(2, 5, 2, 6, 40),
    Stage(3, 3, 2, 6, 80),
    Stage(3, 5, 1, 6, 112),
    Stage(4, 5, 2, 6, 192),
    Stage(1, 3, 1, 6, 320),
)
"""EfficientNet-B0, table 1 of the paper."""


class EfficientNetLite(nn.Module):
    """The classifier as published; `features` gives the outputs of its blocks.

    Parameters
    ----------
    width, depth : float
        Factors of the channels and of the repeats of B0: 1 and 1 for Lite0, 1 and 1.1 for Lite1, 1.1 and 1.2 for
        Lite2.
    n_blocks : int, optional
        Build only this many blocks, without head and classifier; all of them by default.
    """

    def __init__(self, width: float = 1.0, depth: float = 1.0, n_blocks: int | None = None) -> None:
        super().__init__()
        self._conv_stem = SameConv2d(3, _STEM_CHANNELS, kernel_size=3, stride=2)
        self._bn0 = nn.BatchNorm2d(_STEM_CHANNELS, _EPSILON)
        blocks: list[MBConv] = []
        channels, stride = _STEM_CHANNELS, 2
        self.strides: list[int] = []
        """Pixels of the input between two positions of each block's output."""
        self.channels: list[int] = []
        """Channels of each block's output."""
        for stage in STAGES:
            channels_out = _scaled_channels(stage.channels, width)
            fixed = stage in (STAGES[0], STAGES[-1])  # the Lite variants scale the stages between
            for repeat in range(stage.repeats if fixed else math.ceil(depth * stage.repeats)):
                block_stride = stage.stride if repeat == 0 else 1
                blocks.append(
                    MBConv(channels, channels_out, stage.kernel_size, block_stride, stage.expansion)
                )
                channels, stride = channels_out, stride * block_stride
                self.strides.append(stride)
                self.channels.append(channels)
        self._blocks = nn.ModuleList(blocks[:n_blocks])
        if n_blocks is None:
            self._conv_head = SameConv2d(channels, _HEAD_CHANNELS, kernel_size=1)
            self._bn1 = nn.BatchNorm2d(_HEAD_CHANNELS, _EPSILON)
            self._fc = nn.Linear(_HEAD_CHANNELS, 1000)

    def features(self, x: Tensor, blocks: Collection[int]) -> list[Tensor]:
        """Outputs of some blocks, in ascending order; later blocks are not computed.

        Parameters
        ----------
        x : Tensor
            `float[N, 3, H, W]`, (pixel − 127) / 128.
        blocks : collection of int
            From 0.

        Returns
        -------
        list of Tensor
            `float[N, K, ⌈H/stride⌉, ⌈W/stride⌉]` each.
        """
        outputs = []
        x = functional.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for number, block in enumerate(self._blocks[: max(blocks) + 1]):
            x = block(x)
            if number in blocks:
                outputs.append(x)
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Logits of ImageNet's 1,000 classes: `float[N, 3, H, W]` to `float[N, 1000]`."""
        (x,) = self.features(x, [len(self._blocks) - 1])
        x = functional.relu6(self._bn1(self._conv_head(x)), inplace=True)
        logits: Tensor = self._fc(x.mean(dim=(2, 3)))
        return logits


class MBConv(nn.Module):
    """Expand the channels, filter each by itself, project; with a shortcut where the shape stays.

    Source: Sandler et al., *MobileNetV2: Inverted Residuals and Linear Bottlenecks*, CVPR 2018.
    """

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, stride: int, expansion: int
    ) -> None:
        super().__init__()
        width = expansion * channels_in
        self.expands = expansion > 1
        self.has_shortcut = stride == 1 and channels_in == channels_out
        if self.expands:
            self._expand_conv = SameConv2d(channels_in, width, kernel_size=1)
            self._bn0 = nn.BatchNorm2d(width, _EPSILON)
        self._depthwise_conv = SameConv2d(width, width, kernel_size, stride, groups=width)
        self._bn1 = nn.BatchNorm2d(width, _EPSILON)
        self._project_conv = SameConv2d(width, channels_out, kernel_size=1)
        self._bn2 = nn.BatchNorm2d(channels_out, _EPSILON)

    def forward(self, x: Tensor) -> Tensor:
        """Transform `float[N, channels_in, H, W]`."""
        y = functional.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        y = functional.relu6(self._bn1(self._depthwise_conv(y)), inplace=True)
        projected: Tensor = self._bn2(self._project_conv(y))
        return x + projected if self.has_shortcut else projected


def fold_batch_norms(network: nn.Module) -> None:
    """Replace each batch norm by weights of the convolution before it, in place; the network is in eval mode.

    The feature maps stay the same up to rounding, and a fifth of the time is saved.
    """
    for module in list(network.modules()):
        for (conv_name, conv), (norm_name, norm) in pairwise(list(module.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                folded = fuse_conv_bn_eval(conv.double(), norm.double())
                setattr(module, conv_name, folded.float())
                setattr(module, norm_name, nn.Identity())


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's padding: ⌈side / stride⌉ outputs, an odd pixel of padding right and below."""

    def __init__(
        self, channels_in: int, channels_out: int, kernel_size: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel_size // 2 if stride == 1 else 0  # others depend on the side
        super().__init__(channels_in, channels_out, kernel_size, stride, padding, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve `float[N, C, H, W]`."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            rows, columns = (_padding(side, kernel, stride) for side in x.shape[2:])
            x = functional.pad(x, (*columns, *rows))
        return super().forward(x)


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Pixels of padding before and after a side."""
    outputs = (side + stride - 1) // stride
    total = (outputs - 1) * stride + kernel - side  # never below 0, since kernels are larger than strides
    return total // 2, total - total // 2


def _scaled_channels(channels: int, width: float, divisor: int = 8) -> int:
    """Channels times the width factor, to the nearest multiple of 8 that is not a tenth smaller."""
    scaled = channels * width
    rounded = max(divisor, int(scaled + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * scaled else rounded
