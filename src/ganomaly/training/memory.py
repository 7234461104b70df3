"""Whether networks can be trained in the memory there is, before they are built."""

import torch
from torch import Generator

from ganomaly.config import MethodOptions, Preprocessing
from ganomaly.data.resources import total_memory
from ganomaly.errors import UsageError
from ganomaly.methods import Method

BYTES_PER_WEIGHT = 16  # itself, its gradient, and Adam's two moments, in fp32
BYTES_PER_SAMPLE = 8  # of a batch and its reconstruction, in fp32


def check_fits_memory(
    method_type: type[Method],
    options: MethodOptions,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    device: torch.device,
) -> None:
    """Refuse training for which weights and images alone need more memory than the device has.

    The feature maps come on top, so what passes may still be too large.

    Raises
    ------
    UsageError
        If they do not fit, or the method cannot take images of this size.
    """
    memory = total_memory() if device.type == "cpu" else torch.cuda.get_device_properties(device).total_memory
    with torch.device("meta"):  # shapes alone
        method = method_type(options, preprocessing, Generator())
    n_weights = sum(weight.numel() for weight in method.parameters())
    side = preprocessing.image_size
    needed = BYTES_PER_WEIGHT * n_weights + BYTES_PER_SAMPLE * batch_size * preprocessing.channels * side**2
    if memory is not None and needed > memory:
        raise UsageError(
            f"training networks of {n_weights / 1e6:,.0f} million weights on {batch_size} images of {side}×{side} px "
            f"needs at least {needed / 1e9:,.1f} GB of memory, and there are {memory / 1e9:,.1f} GB; choose a "
            "smaller image size, or smaller networks (method options ngf and ndf)"
        )
