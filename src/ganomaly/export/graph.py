"""A model from the user's pixels to the verdict as one PyTorch module, which is what gets exported.

Everything that a prediction does around the networks is done here by tensor operations, so that a graph holds it:
resizing as Pillow does it, normalisation, the method's score and map, calibration and threshold.
"""

from fractions import Fraction

import torch
from torch import Tensor, nn

from ganomaly.calibration import ProductCalibration
from ganomaly.config import SCALE_STEPS
from ganomaly.data.ignored_region import mask_of
from ganomaly.errors import UsageError
from ganomaly.methods import Method
from ganomaly.prediction.exported import OUTPUTS
from ganomaly.prediction.model import Model

# Pillow's 22-bit weights are split in two halves of 11 bits
_HALF = 2**11
_STEP = 2**6


class InferenceGraph(nn.Module):
    """From images to predictions.

    Parameters
    ----------
    model : Model
        On the CPU, in eval mode.

    Raises
    ------
    UsageError
        If the method searches while it scores, which a graph cannot hold.
    """

    calibration_scores: Tensor
    calibration_counts: Tensor
    ignored: Tensor | None

    def __init__(self, model: Model) -> None:
        super().__init__()
        if not model.method.exportable:
            raise UsageError(
                f"the method {model.method.name} searches by gradients for each image, which no graph can hold; "
                "export a model of another method"
            )
        self.method = model.method
        for module in self.method.modules():
            if isinstance(module, Method):
                module.fix_branches()
        self.preprocessing = model.preprocessing
        scale = model.preprocessing.scale
        self.scale = None if scale is None else as_fraction(scale)
        scores, counts = _calibration(model)
        self.register_buffer("calibration_scores", scores)
        self.register_buffer("calibration_counts", counts)
        ignored = model.preprocessing.ignored
        self.register_buffer(
            "ignored", None if ignored is None else torch.from_numpy(mask_of(ignored).copy())
        )

    def forward(self, image: Tensor, threshold: Tensor) -> tuple[Tensor, ...]:
        """The values of `predict`, in the order of `OUTPUTS`."""
        outputs = self.predict(image, threshold)
        return tuple(outputs[name] for name in OUTPUTS if name in outputs)

    def predict(self, image: Tensor, threshold: Tensor) -> dict[str, Tensor]:
        """Predict a batch of images of one size.

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
            `float[N, H, W]` at the size of the image, and `reconstruction` `uint8[N, h, w, C]`; of a model of several
            products `product` `int64[N]`, its number.
        """
        prediction = self.method.predict(self._network_input(image))
        score = prediction.score.float()
        calibration, count = self.calibration_scores, self.calibration_counts
        if prediction.product is not None:
            calibration, count = (part.index_select(0, prediction.product) for part in (calibration, count))
        n_at_least = (calibration >= score[:, None]).sum(dim=1)
        outputs = {
            "score": score,
            "p_value": (1 + n_at_least).float() / (1 + count),
            "is_anomaly": score > threshold,
        }
        if prediction.anomaly_map is not None:
            height, width = image.shape[1:3]
            anomaly_map = self._without_region(prediction.anomaly_map[:, None])
            outputs["anomaly_map"] = resize(anomaly_map, height, width)[:, 0]
        if prediction.reconstruction is not None:
            pixels = ((prediction.reconstruction + 1) * 127.5).round().clamp(0, 255)
            outputs["reconstruction"] = pixels.permute(0, 2, 3, 1).to(torch.uint8)
        if prediction.product is not None:
            outputs["product"] = prediction.product
        return outputs

    def _network_input(self, image: Tensor) -> Tensor:
        """Resize and normalise pixels `[N, H, W, C]` to x, `float[N, C, h, w]` in [−1, 1]."""
        pixels = image.permute(0, 3, 1, 2).float()
        is_exact = self.preprocessing.bits == 8 and self.preprocessing.channels in (1, 3)
        pixels = resize(pixels, *self._network_size(*pixels.shape[2:]), exact=is_exact)
        if not is_exact:
            pixels = pixels.round()
        pixels = self._without_region(pixels)
        return (pixels * (2 / self.preprocessing.white_level) - 1).clamp(max=1)

    def _without_region(self, x: Tensor) -> Tensor:
        """Set the ignored region of `float[N, C, h, w]` to 0, as `mask_at_size` finds it."""
        if self.ignored is None:
            return x
        rows, columns = (
            torch.div((2 * torch.arange(side) + 1) * length, 2 * side, rounding_mode="trunc")
            for side, length in zip(x.shape[2:], self.ignored.shape, strict=True)
        )
        region = self.ignored.index_select(0, rows).index_select(1, columns)
        return torch.where(region, 0.0, x)

    def _network_size(self, height: int, width: int) -> tuple[int, int]:
        if self.scale is None:
            return self.preprocessing.image_size, self.preprocessing.image_size
        numerator, denominator = self.scale.numerator, self.scale.denominator
        # as `scaled_side` rounds
        sides = ((2 * numerator * side + denominator) // (2 * denominator) for side in (height, width))
        scaled_height, scaled_width = (
            torch.sym_max(1, side)  # type: ignore[no-untyped-call]  # torch does not type it
            for side in sides
        )
        return scaled_height, scaled_width


def _calibration(model: Model) -> tuple[Tensor, Tensor]:
    """Calibration scores, `float[n]`, and how many there are, `float[]`.

    Of several products `float[P, n]`, filled up with −1, and `float[P]`.
    """
    calibration = model.calibration
    if not isinstance(calibration, ProductCalibration):
        return torch.from_numpy(calibration.scores).float(), torch.tensor(float(len(calibration.scores)))
    parts = list(calibration.products.values())
    scores = torch.full((len(parts), max(len(part.scores) for part in parts)), -1.0)
    for row, part in zip(scores, parts, strict=True):
        row[: len(part.scores)] = torch.from_numpy(part.scores)
    return scores, torch.tensor([float(len(part.scores)) for part in parts])


def as_fraction(scale: float) -> Fraction:
    """The scale as an exact fraction, of numbers small enough for the 32 bits in which OpenVINO computes sizes.

    Raises
    ------
    UsageError
        If it is not a whole number of `SCALE_STEPS`.
    """
    fraction = Fraction(scale)
    if fraction.denominator > SCALE_STEPS:
        raise UsageError(f"the scale {scale!r} of this model cannot be exported; train it again")
    return fraction


def resize(x: Tensor, height: int, width: int, *, exact: bool = False) -> Tensor:
    """Resize `float[N, C, H, W]` as Pillow's antialiased bilinear filter does.

    Parameters
    ----------
    x : Tensor
        Pixels.
    height, width : int
        Of the result.
    exact : bool
        Whether the pixels are whole numbers from 0 to 255, and the result is Pillow's bit for bit; Pillow rounds
        after each of its two passes.
    """
    for axis, size in ((3, width), (2, height)):
        n_in = x.shape[axis]
        x = _filter_exactly(x, size, axis) if exact else _apply_filter(x, filter_matrix(n_in, size), axis)
    return x


def filter_matrix(n_in: int, n_out: int) -> Tensor:
    """The weight of each input position in each output position: `float[n_out, n_in]`, rows add up to 1."""
    weights, total = _triangle_weights(n_in, n_out)
    return weights.float() / total.float()


def _triangle_weights(n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """Triangles over |x − centre| / support in whole numbers, `int[n_out, n_in]`, and their sums, `int[n_out, 1]`."""
    source = 2 * torch.arange(n_in) + 1
    centre = 2 * torch.arange(n_out) + 1
    support = 2 * torch.sym_max(n_in, n_out)  # type: ignore[no-untyped-call]  # torch does not type it
    weights = (support - (source * n_out - centre[:, None] * n_in).abs()).clamp(min=0)
    return weights, weights.sum(dim=1, keepdim=True)


def _apply_filter(x: Tensor, matrix: Tensor, axis: int) -> Tensor:
    """Apply a filter `float[n_out, n_in]` along the height or the width of `float[N, C, H, W]`."""
    return x @ matrix.t() if axis == 3 else matrix @ x


def _filter_exactly(x: Tensor, size: int, axis: int) -> Tensor:
    """Filter 8-bit pixels with Pillow's own arithmetic, whose weights have 22 bits.

    The weights are applied as two halves of 11 bits: then 32 bits hold every intermediate number of the weights, and
    floating point computes each sum exactly, in any order of its terms.
    """
    weights, total = _triangle_weights(x.shape[axis], size)
    high = _divide(weights * _HALF, total)
    # the low half in two steps: OpenVINO computes 64-bit integers in 32 bits
    remainder = (weights * _HALF - high * total) * _STEP
    first = _divide(remainder, total)
    last = _HALF // _STEP
    low = first * last + _divide(
        (remainder - first * total) * (2 * last) + total, 2 * total
    )  # to the nearest
    carry = (_apply_filter(x, low.float(), axis) / _HALF).floor()
    pixels = ((_apply_filter(x, high.float(), axis) + carry + _HALF / 2) / _HALF).floor()
    return pixels.clamp(0, 255)


def _divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    return torch.div(numerator, denominator, rounding_mode="trunc")
