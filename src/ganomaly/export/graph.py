"""The whole way from the user's pixels to the verdict as one PyTorch module, which is what gets exported.

Everything that scoring does around the networks is done here with tensors alone, so that a graph holds it: resizing
as Pillow does it, normalisation, the method's score and map, calibration and threshold.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn

from ganomaly.errors import UsageError
from ganomaly.prediction.exported import OUTPUTS
from ganomaly.prediction.model import Model
from ganomaly.config import SCALE_STEPS

_HALF = 2**11  # of the 22 bits
_STEP = 2**6


class InferenceGraph(nn.Module):
    """From images to verdicts.

    Parameters
    ----------
    model : Model
        On the processor, in eval mode.

    Raises
    ------
    UsageError
        If the method searches while it scores, so that no graph can hold it.
    """

    calibration_scores: Tensor

    def __init__(self, model: Model) -> None:
        super().__init__()
        if not model.method.exportable:
            raise UsageError(
                f"the method {model.method.name} searches by gradients for each image, which no graph can hold; "
                "export a model of another method"
            )
        self.method = model.method
        self.preprocessing = model.preprocessing
        scale = model.preprocessing.scale
        self.scale = None if scale is None else as_fraction(scale)
        self.register_buffer("calibration_scores", torch.from_numpy(model.calibration.scores).float())

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        """What `judged` gives, in the order of `OUTPUTS`."""
        found = self.judged(image, threshold)
        return tuple(found[name] for name in OUTPUTS if name in found)

    def judged(self, image: Tensor, threshold: Tensor) -> dict[str, Tensor]:
        """Predictor images.

        Parameters
        ----------
        image : Tensor
            `uint8` or `uint16` `[N, H, W, C]`, the user's pixels.
        threshold : Tensor
            `float[1]`, φ.

        Returns
        -------
        dict of str to Tensor
            `score` and `p_value` `float[N]`, `is_anomaly` `bool[N]`, and where the method has them `anomaly_map`
            `float[N, H, W]` at the size of the image, and `reconstruction` `uint8[N, h, w, C]`.
        """
        pixels = image.permute(0, 3, 1, 2).float()
        height, width = pixels.shape[2:]
        rounded = self.preprocessing.bits == 8 and self.preprocessing.channels in (1, 3)
        pixels = resized(pixels, *self._network_size(height, width), rounded=rounded)
        if not rounded:
            pixels = pixels.round()
        found = self.method.predict((pixels * (2 / self.preprocessing.white_level) - 1).clamp(max=1))
        score = found.score.float()
        reached = (self.calibration_scores >= score[:, None]).sum(dim=1)
        outputs = {
            "score": score,
            "p_value": (1 + reached).float() / (1 + len(self.calibration_scores)),
            "is_anomaly": score > threshold,
        }
        if found.anomaly_map is not None:
            outputs["anomaly_map"] = resized(found.anomaly_map[:, None], height, width)[:, 0]
        if found.reconstruction is not None:
            shown = ((found.reconstruction + 1) * 127.5).round().clamp(0, 255)
            outputs["reconstruction"] = shown.permute(0, 2, 3, 1).to(torch.uint8)
        return outputs

    def _network_size(self, height: int, width: int) -> tuple[int, int]:
        if self.scale is None:
            return self.preprocessing.image_size, self.preprocessing.image_size
        above, below = self.scale.numerator, self.scale.denominator
        # as `scaled_side` rounds
        sides = ((2 * above * side + below) // (2 * below) for side in (height, width))
        high, wide = (torch.sym_max(1, side) for side in sides)  # type: ignore[no-untyped-call]
        return high, wide


def as_fraction(scale: float) -> Fraction:
    """The very scale as a fraction, of numbers small enough for 32 bits, in which OpenVINO counts sides."""
    fraction = Fraction(scale)
    if fraction.denominator > SCALE_STEPS:
        raise UsageError(f"the scale {scale!r} of this model cannot be exported; train it again")
    return fraction


def resized(x: Tensor, height: int, width: int, *, rounded: bool = False) -> Tensor:
    """Resize `float[N, C, H, W]` as Pillow's antialiased bilinear filter does.

    Parameters
    ----------
    x : Tensor
        Pixels.
    height, width : int
        Of the result.
    rounded : bool
        Whether the pixels are whole numbers from 0 to 255, and each of the two passes ends in such numbers too.
    """
    for axis, size in ((3, width), (2, height)):
        x = (
            _in_whole_numbers(x, size, axis)
            if rounded
            else _filtered(x, filter_matrix(x.shape[axis], size), axis)
        )
    return x


def filter_matrix(n_in: int, n_out: int) -> Tensor:
    """How much each of so many places counts in each new one: `float[n_out, n_in]`, rows add up to 1."""
    weights, total = _triangles(n_in, n_out)
    return weights.float() / total.float()


def _triangles(n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """The triangles over |x − centre| / support in whole numbers, `int[n_out, n_in]`; their sums, `int[n_out, 1]`."""
    source = 2 * torch.arange(n_in) + 1
    centre = 2 * torch.arange(n_out) + 1
    support = 2 * torch.sym_max(n_in, n_out)  # type: ignore[no-untyped-call]  # torch does not type it
    weights = (support - (source * n_out - centre[:, None] * n_in).abs()).clamp(min=0)
    return weights, weights.sum(dim=1, keepdim=True)


def _filtered(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Apply a filter `float[n_out, n_in]` along the height or the width of `float[N, C, H, W]`."""
    return x @ matrix.t() if axis == 3 else matrix @ x


def _in_whole_numbers(x: Tensor, size: int, axis: int) -> Tensor:
    """The same for 8-bit pixels with the very numbers of Pillow, whose weights have 22 bits.

    Half of the bits at a time: then 32 bits hold every number on the way to the weights, and floating point gets each
    sum exactly, in whatever order it adds.
    """
    weights, total = _triangles(x.shape[axis], size)
    high = _quotient(weights * _HALF, total)
    # in two steps, for OpenVINO computes in 32 bits what is said to have 64
    left = (weights * _HALF - high * total) * _STEP
    first = _quotient(left, total)
    last = _HALF // _STEP
    low = first * last + _quotient((left - first * total) * (2 * last) + total, 2 * total)  # to the nearest
    carried = (_filtered(x, low.float(), axis) / _HALF).floor()
    pixels = ((_filtered(x, high.float(), axis) + carried + _HALF / 2) / _HALF).floor()
    return pixels.clamp(0, 255)


def _quotient(above: Tensor, below: Tensor) -> Tensor:
    return torch.div(above, below, rounding_mode="trunc")
