"""The part of a model file that a model of several products has: what differs between them.

The file holds the method of the first product as that of any model. Of each other product it holds the tensors that
differ from the first one's, which are its statistics, and of each its calibration scores, divided by its threshold.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ganomaly.calibration import Calibration, ProductCalibration
from ganomaly.methods import Method
from ganomaly.methods.products import ProductMethods
from ganomaly.prediction.header import damaged

PREFIX = "products/"
THRESHOLDS, MAP_THRESHOLDS = f"{PREFIX}thresholds", f"{PREFIX}map_thresholds"
_SCORES = re.compile(r"products/[0-9]+/scores")
_WEIGHTS = re.compile(r"products/[0-9]+/weights/.+")


def product_tensors(method: ProductMethods, calibration: ProductCalibration) -> dict[str, Tensor]:
    """What a model file holds of several products, beside the method of the first one."""
    first = method.first.state_dict()
    tensors = {THRESHOLDS: method.thresholds.cpu(), MAP_THRESHOLDS: method.map_thresholds.cpu()}
    parts = zip(method.of_products(), calibration.products.values(), strict=True)
    for number, (part, part_calibration) in enumerate(parts):
        tensors[f"{PREFIX}{number}/scores"] = torch.from_numpy(part_calibration.scores)
        for name, tensor in part.state_dict().items():
            if number and not _same(tensor, first[name]):
                tensors[f"{PREFIX}{number}/weights/{name}"] = tensor.cpu().contiguous()
    return tensors


def check_product_tensor(path: Path, name: str, dtype: str, shape: Sequence[int]) -> None:
    """Refuse a name, type or shape that no tensor of several products has, before it is read."""
    if _WEIGHTS.fullmatch(name):
        return
    expected = "F64" if _SCORES.fullmatch(name) else "F32" if name in (THRESHOLDS, MAP_THRESHOLDS) else None
    if expected is None:
        raise damaged(path, f"the tensor {name[:100]!r} belongs to no model")
    if dtype != expected or len(shape) != 1:
        raise damaged(path, f"{name} is {dtype} {shape[:8]} instead of {expected} and one-dimensional")


def load_products(
    path: Path,
    names: Sequence[str],
    first: Method,
    tensors: Mapping[str, Tensor],
    load: Callable[[dict[str, Tensor]], Method],
    false_alarm_rate: float,
) -> tuple[ProductMethods, ProductCalibration]:
    """Several products from a model file.

    Parameters
    ----------
    path : Path
        The file, for messages.
    names : sequence of str
        Of the products.
    first : Method
        That of the first one.
    tensors : mapping of str to Tensor
        Those of the file.
    load : callable
        Builds a method from its weights.
    false_alarm_rate : float
        The rate that the user chose.

    Raises
    ------
    ModelFileError
        If something is missing, or is not what a model of these products has.
    """
    numbers = range(len(names))
    needed = [THRESHOLDS, MAP_THRESHOLDS, *(f"{PREFIX}{number}/scores" for number in numbers)]
    for name in needed:
        if name not in tensors:
            raise damaged(path, f"{name} is missing")
    thresholds = [tensors[THRESHOLDS], tensors[MAP_THRESHOLDS]]
    if any(
        len(values) != len(names) or not (values.isfinite() & (values > 0)).all() for values in thresholds
    ):
        raise damaged(path, "its thresholds are not one finite number above 0 for each product")
    calibrations = {}
    for number, name in enumerate(names):
        scores = tensors[f"{PREFIX}{number}/scores"].numpy()
        if not (np.isfinite(scores).all() and (scores >= 0).all()) or (
            len(scores) > 1 and np.ptp(scores) == 0
        ):
            raise damaged(path, "the calibration scores of a product are not finite numbers ≥ 0 that differ")
        calibrations[name] = Calibration(scores, false_alarm_rate)
    state = first.state_dict()
    methods = {names[0]: first}
    for number in numbers[1:]:
        prefix = f"{PREFIX}{number}/weights/"
        own = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
        methods[names[number]] = load({**state, **own})
    method = ProductMethods(methods, thresholds[0].tolist(), thresholds[1].tolist())
    return method.eval(), ProductCalibration.of_relative(calibrations)


def _same(first: Tensor, second: Tensor) -> bool:
    return first.shape == second.shape and torch.equal(first, second)
