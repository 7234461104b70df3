"""One method for several products: networks that they share, and statistics of each.

An image is predicted with the statistics of each product, and belongs to the product for which it is most normal: the
one with the smallest score relative to that product's threshold, A(x) / φ. That ratio is its score here. So an image
is anomalous only if it is anomalous for every product, and a product's false-alarm rate is at most that of its own
threshold, whichever products its images are taken for.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from ganomaly.config import MethodOptions
from ganomaly.methods.base import BatchPrediction, Method

_TINY = 1e-12


class ProductMethods(nn.Module):
    """Predicts as a `Method` does, with the statistics of the product that an image belongs to.

    Parameters
    ----------
    methods : mapping of str to Method
        A method for each product; they share their networks.
    thresholds, map_thresholds : sequence of float
        φ and the map's threshold of each.
    """

    thresholds: Tensor
    map_thresholds: Tensor

    def __init__(
        self, methods: Mapping[str, Method], thresholds: Sequence[float], map_thresholds: Sequence[float]
    ) -> None:
        super().__init__()
        self.names = tuple(methods)
        self.methods = nn.ModuleList(methods.values())
        for name, values in (("thresholds", thresholds), ("map_thresholds", map_thresholds)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).clamp_min(_TINY))

    @property
    def first(self) -> Method:
        """The method of the first product."""
        return self.of_products()[0]

    def of_products(self) -> list[Method]:
        """The method of each product."""
        return [method for method in self.methods if isinstance(method, Method)]

    @property
    def name(self) -> str:
        """Name of the method."""
        return self.first.name

    @property
    def options(self) -> MethodOptions:
        """Options of the method."""
        return self.first.options

    @property
    def exportable(self) -> bool:
        """Whether the method is."""
        return self.first.exportable

    def predict(self, x: Tensor) -> BatchPrediction:
        """Predict images, as `Method.predict`; `product` says which product each belongs to."""
        return self._chosen([method.predict(x) for method in self.of_products()])

    def predict_outside(self, x: Tensor, ignored: Tensor) -> BatchPrediction:
        """Predict images with regions that are ignored, as `Method.predict_outside`."""
        return self._chosen([method.predict_outside(x, ignored) for method in self.of_products()])

    def _chosen(self, predictions: Sequence[BatchPrediction]) -> BatchPrediction:
        scores = torch.stack([prediction.score for prediction in predictions], dim=1)
        score, product = (scores / self.thresholds.to(scores)).min(dim=1)
        maps = [prediction.anomaly_map for prediction in predictions]
        relative = [
            None if values is None else values / threshold
            for values, threshold in zip(maps, self.map_thresholds, strict=True)
        ]
        reconstructions = [prediction.reconstruction for prediction in predictions]
        return BatchPrediction(
            score, _selected(relative, product), _selected(reconstructions, product), product
        )


def with_own_statistics(method: Method) -> Method:
    """A copy of a method that shares its weights, and has buffers of its own."""
    shared: dict[int, Any] = {id(parameter): parameter for parameter in method.parameters()}
    return deepcopy(method, shared)


def _selected(values: Sequence[Tensor | None], product: Tensor) -> Tensor | None:
    """Of each image what belongs to its product: P of `float[N, …]` to `float[N, …]`."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    stacked = torch.stack(present, dim=1)  # [N, P, …]
    index = product.view(-1, *[1] * (stacked.ndim - 1)).expand(-1, 1, *stacked.shape[2:])
    return stacked.gather(1, index)[:, 0]
