"""Between pixels in memory and tensors on the device."""

from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)


def network_input(
    images: NDArray[np.uint8] | NDArray[np.uint16], white_level: int, device: torch.device
) -> Tensor:
    """Bring pixels to [−1, 1].

    Parameters
    ----------
    images : ndarray
        `uint8` or `uint16` `[N, H, W, C]`.
    white_level : int
        The pixel value that becomes +1; brighter ones are cut to it.
    device : torch.device
        Where the tensor is made.

    Returns
    -------
    Tensor
        `float32[N, C, H, W]`, channels last in memory, as the pixels are already.
    """
    # torch computes little in uint16
    values = images if images.dtype == np.uint8 else images.astype(np.float32)
    values = (
        values if values.flags.writeable else values.copy()
    )  # torch warns of memory that nobody may write to
    pixels = torch.from_numpy(values).to(device, non_blocking=True).float()
    x = pixels.mul_(2 / white_level).sub_(1).clamp_(max=1)
    return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)


def in_channels_last(module: M) -> M:
    """Lay the weights out as the processor's and the GPU's kernels like them; the numbers stay."""
    laid_out: M = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return laid_out


def displayable(x: Tensor) -> NDArray[np.uint8]:
    """Turn network images in [−1, 1], `float[N, C, H, W]`, into `uint8[N, H, W, C]` for people."""
    pixels = x.float().add(1).mul_(127.5).round_().clamp_(0, 255)
    return pixels.permute(0, 2, 3, 1).to(torch.uint8).cpu().numpy()
