"""From the signals of an image to score and anomaly map.

1. Each signal is standardised by what normal images show at that position; the map is the root of their weighted mean
   square.
2. The top-k mean of each standardised signal is standardised by those of normal images of that size; the score is the
   root of their weighted mean square.
3. The weights are those with which the score best tells normal images with a synthetic defect from normal images
   without, by logistic regression. A priori a signal's weight is (2·AUROC − 1)², of its own AUROC.
"""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import LBFGS, Optimizer

from ganomaly.methods.base import BatchPrediction
from ganomaly.methods.ignored_positions import counted_positions, without_positions
from ganomaly.methods.reference_statistics import PositionStatistics, SizeStatistics
from ganomaly.methods.signals import combined
from ganomaly.methods.synthetic_defects import with_defects

SIGNAL_STRIDE = 2  # px between the positions of signals
WEIGHT_IMAGES = 128  # that get a defect, which the weights come from
DEFECT_SIDE = 192  # px of the part of an image that gets a defect
_STEPS = 100  # of the regression
_RANGE = (-10.0, 100.0)  # standard deviations, beyond which a difference is as good as any
_PRIOR = 2.0  # images: that much evidence speaks against weights that differ from those a priori
_MIN_SEPARATION = 0.02  # a priori weight, relative to the largest, of a signal that sees none of the defects
_TINY = 1e-6
_ATTEMPTS = 20  # at drawing a defect that is visible

Signals = Callable[[Tensor], Tensor]
"""From images `float[N, C, H, W]` to signals `float[N, K, ⌈H/2⌉, ⌈W/2⌉]`."""


class SignalScoring(nn.Module):
    """Statistics of the signals of normal images, and weights.

    Parameters
    ----------
    n_signals : int
        K.
    """

    weights: Tensor

    def __init__(self, n_signals: int) -> None:
        super().__init__()
        self.positions = PositionStatistics(n_signals)
        self.sizes = SizeStatistics(n_signals)
        self.register_buffer("weights", torch.ones(n_signals))

    def fit(
        self,
        signals_of: Signals,
        images: Sequence[Tensor],
        ignored: Sequence[Tensor | None],
        contrast: float,
    ) -> None:
        """Take statistics and weights from normal images, `float[1, C, H, W]` each.

        Parameters
        ----------
        signals_of : callable
            Gives the signals.
        images : sequence of Tensor
            Normal images that no memory bank was filled from.
        ignored : sequence of Tensor or None
            Where each is ignored, `bool[H, W]`; None for nowhere.
        contrast : float
            Their local contrast, see `synthetic_defects`.
        """
        signals = [signals_of(image)[0] for image in images]
        counted = [None if region is None else counted_positions(region, SIGNAL_STRIDE) for region in ignored]
        self.positions.fit(signals, counted)
        above = [self._above_normal(image_signals[None]) for image_signals in signals]
        self.sizes.fit((image_signals[0] for image_signals in above), counted)
        normal = torch.cat(
            [
                self.sizes(without_positions(image_signals, positions))
                for image_signals, positions in zip(above, counted, strict=True)
            ]
        )
        random = np.random.default_rng(0)
        defective = []
        for image, region, positions in zip(images[:WEIGHT_IMAGES], ignored, counted, strict=False):
            changed = signals_of(_with_visible_defect(image, region, contrast, random))
            defective.append(self.sizes(without_positions(self._above_normal(changed), positions)))
        self.weights.copy_(_separating_weights(normal, torch.cat(defective)))

    def predict(self, signals_of: Signals, x: Tensor, ignored: Tensor | None = None) -> BatchPrediction:
        """Predict images `float[N, C, H, W]`; of one image, a region may be ignored, `bool[H, W]`."""
        above = self._above_normal(signals_of(x))
        counted = None if ignored is None else counted_positions(ignored, SIGNAL_STRIDE)
        score = _score(self.sizes(without_positions(above, counted)), self.weights)
        coarse = combined(above, self.weights)[:, None]
        anomaly_map = functional.interpolate(
            coarse, scale_factor=SIGNAL_STRIDE, mode="bilinear", align_corners=False
        )
        return BatchPrediction(score, anomaly_map[:, 0, : x.shape[2], : x.shape[3]])

    def _above_normal(self, signals: Tensor) -> Tensor:
        """How many scales the signals `float[N, K, h, w]` are above those of normal images; ≥ 0."""
        standardised: Tensor = self.positions(signals)
        return standardised.clamp_min(0)


def _score(standardised: Tensor, weights: Tensor) -> Tensor:
    """From the standardised top-k means of images, `float[N, K]`, to their scores, `float[N]`."""
    return combined(functional.softplus(standardised), weights)


def _separating_weights(normal: Tensor, defective: Tensor) -> Tensor:
    """The weights with which the score best tells `float[n, K]` from `float[m, K]`: `float[K]`, their sum 1.

    Signals that see the same of the defects share a weight; one that sees something else has its own.
    """
    with torch.inference_mode(False), torch.enable_grad():
        normal, defective = (figures.double().clamp(*_RANGE) for figures in (normal, defective))
        prior = _separation(normal, defective).square()
        prior = prior.clamp_min(_MIN_SEPARATION * float(prior.max()) + _TINY).log()
        change = torch.zeros_like(prior, requires_grad=True)
        line = torch.zeros_like(prior[:2], requires_grad=True)  # from score to logit: log of slope, offset
        optimizer: Optimizer = LBFGS([change, line], max_iter=_STEPS, line_search_fn="strong_wolfe")

        def closure() -> float:
            optimizer.zero_grad()
            weights = (prior + change).softmax(dim=0)
            errors = [
                functional.softplus(sign * (line[0].exp() * _score(standardised, weights) + line[1])).mean()
                for standardised, sign in ((normal, 1), (defective, -1))
            ]
            loss = torch.stack(errors).mean() + _PRIOR / len(defective) * change.var(correction=0)
            torch.autograd.backward(loss)
            return float(loss.detach())

        optimizer.step(closure)
    # a regression that diverges says nothing
    return (prior + change.detach().nan_to_num(0, 0, 0)).softmax(dim=0).float()


def _separation(normal: Tensor, defective: Tensor) -> Tensor:
    """2·AUROC − 1 for each column of `float[n, K]` and `float[m, K]`, 0 at least: `float[K]`."""
    return (defective[:, None] - normal).sign().mean(dim=(0, 1)).clamp_min(0)  # of all pairs


def _with_visible_defect(
    image: Tensor, ignored: Tensor | None, contrast: float, random: np.random.Generator
) -> Tensor:
    """A normal image `float[1, C, H, W]` with a synthetic defect in a random part of it, outside what is ignored."""
    side = min(DEFECT_SIDE, *image.shape[2:])
    top, left = (int(random.integers(length - side + 1)) for length in image.shape[2:])
    part = image[:, :, top : top + side, left : left + side]
    visible = (
        torch.ones_like(part[0, 0])
        if ignored is None
        else (~ignored[top : top + side, left : left + side]).to(part)
    )
    changed = part
    for _ in range(_ATTEMPTS):
        patches, mask, _ = with_defects(part, contrast, random)
        if (mask * visible).any():
            changed = patches
            break
    image = image.clone()
    image[:, :, top : top + side, left : left + side] = changed
    return image
