"""Calibration of a model of several products: that of each, in units of its threshold."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganomaly.calibration.conformal import Calibration

_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class ProductCalibration(Calibration):
    """The calibrations of several products.

    An image's score is the smallest of A(x) / φ over the products. It is at most that of its own product, so an image
    is called anomalous at most as often as by its own product's threshold, even if it is taken for another product.

    Attributes
    ----------
    products : mapping of str to Calibration
        Of each product; their scores are divided by its φ, so that each threshold is 1.
    """

    products: Mapping[str, Calibration]

    def __post_init__(self) -> None:
        super().__post_init__()
        # those of another rate follow, where it was replaced
        parts = {
            name: Calibration(part.scores, self.false_alarm_rate) for name, part in self.products.items()
        }
        object.__setattr__(self, "products", parts)

    @classmethod
    def of(cls, products: Mapping[str, Calibration]) -> "ProductCalibration":
        """Join calibrations whose scores are A(x), all of one false-alarm rate."""
        return cls.of_relative(
            {
                name: Calibration(part.scores / max(part.threshold, _TINY), part.false_alarm_rate)
                for name, part in products.items()
            }
        )

    @classmethod
    def of_relative(cls, products: Mapping[str, Calibration]) -> "ProductCalibration":
        """Join calibrations whose scores are divided by φ already."""
        scores = np.concatenate([part.scores for part in products.values()])
        return cls(scores, next(iter(products.values())).false_alarm_rate, products)

    @property
    def enough(self) -> bool:
        """Whether each product has as many calibration images as the chosen false-alarm rate needs."""
        return all(part.enough for part in self.products.values())

    @property
    def attained_rate(self) -> float:
        """The largest of the products' rates."""
        return max(part.attained_rate for part in self.products.values())

    @property
    def threshold(self) -> float:
        """1, as that of each product; at another rate than φ is of, the largest of theirs."""
        return max(part.threshold for part in self.products.values())

    def p_value(self, anomaly_score: ArrayLike) -> NDArray[np.float64]:
        """The largest of the products' p-values; a prediction has that of its product."""
        p_values = np.stack([part.p_value(anomaly_score) for part in self.products.values()])
        return np.asarray(p_values.max(axis=0))

    def shortfall(self, n_groups: int | None = None) -> str | None:
        """One sentence about the first product with too few calibration images, else None."""
        for name, part in self.products.items():
            shortfall = part.shortfall(n_groups)
            if shortfall is not None:
                return f"product {name}: {shortfall}"
        return None
