"""What scores from several signals per position have in common."""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from torch.nn import functional

from ganomaly.methods.base import BatchPrediction
from ganomaly.networks import STRIDE, reflect_to_multiple


def predict_one_by_one(predict: Callable[[Tensor], BatchPrediction], x: Tensor) -> BatchPrediction:
    """Predict images `float[N, C, H, W]` one by one, so that neither rounding nor memory depends on the batch."""
    if torch.compiler.is_exporting():  # a graph has no loop over a number that only its input decides
        return predict(x)
    predictions = [predict(image) for image in torch.split(x, 1)]
    return BatchPrediction(
        torch.cat([image.score for image in predictions]),
        _joined([image.anomaly_map for image in predictions]),
        _joined([image.reconstruction for image in predictions]),
    )


def predict_one_by_one_outside(
    predict: Callable[[Tensor, Tensor], BatchPrediction], x: Tensor, ignored: Tensor
) -> BatchPrediction:
    """The same with regions that are ignored, `bool[N, H, W]`; the map is 0 there."""
    predictions = [predict(image, region) for image, region in zip(torch.split(x, 1), ignored, strict=True)]
    maps = _joined([image.anomaly_map for image in predictions])
    return BatchPrediction(
        torch.cat([image.score for image in predictions]),
        None if maps is None else maps.masked_fill(ignored, 0),
        _joined([image.reconstruction for image in predictions]),
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    present = [part for part in parts if part is not None]
    return torch.cat(present) if present else None


def combined(signals: Tensor, weights: Sequence[float] | Tensor) -> Tensor:
    """The root of the weighted mean square of signals: `float[N, K, …]` and K weights to `float[N, …]`."""
    weight = torch.as_tensor(weights, dtype=signals.dtype, device=signals.device)
    return (signals.square().movedim(1, -1) @ (weight / weight.sum())).sqrt()


def smoothed(x: Tensor, window: int) -> Tensor:
    """The mean within a window around each position of `float[N, K, h, w]`, smaller at the rim."""
    return functional.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)


def at_scale(image: Tensor, scale: int) -> Tensor:
    """An image `float[N, C, H, W]` made smaller by 2 to the power of `scale`, for the networks for patches.

    It is mirrored at its rim by `STRIDE` pixels, so that they see no padding within it.
    """
    factor = 2**scale
    if factor > 1:
        image = functional.avg_pool2d(reflect_to_multiple(image, factor, 0), factor)
    return reflect_to_multiple(image, STRIDE, STRIDE)


def ceil_divide(side: int, divisor: int) -> int:
    """Rounded up; written with numbers above 0, since a graph and Python round negative ones differently."""
    return (side + divisor - 1) // divisor


def random_positions(features: Tensor, most: int, generator: Generator) -> Tensor:
    """Features of at most so many random positions: `float[1, K, h, w]` to `float[1, K, 1, n]`."""
    features = features.flatten(2)
    if features.shape[2] > most:
        positions = torch.randperm(features.shape[2], generator=generator)[:most]
        features = features[:, :, positions.to(features.device)]
    return features[:, :, None]
