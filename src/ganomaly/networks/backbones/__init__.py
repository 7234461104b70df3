"""Frozen, pretrained networks whose feature maps methods use.

`load_backbone` reads pretrained weights by the name of the backbone; `build_backbone` makes the network alone, for a
model file that holds the weights itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ganomaly.networks.backbones.base import Backbone, Level, selected_levels
from ganomaly.networks.backbones.lite import (
    VARIANTS,
    EfficientNetLiteBackbone,
    is_installed,
    lite_levels,
    read_weights,
)

DEFAULT_BACKBONE = "efficientnet-lite0"

__all__ = [
    "DEFAULT_BACKBONE",
    "VARIANTS",
    "Backbone",
    "Level",
    "backbone_levels",
    "build_backbone",
    "default_levels",
    "describe_backbone",
    "installed_backbones",
    "load_backbone",
]


def load_backbone(name: str, levels: Iterable[str]) -> Backbone:
    """Load a pretrained backbone, as far as the deepest level needs it.

    Parameters
    ----------
    name : str
        `efficientnet-lite0`, `-lite1` or `-lite2`, whose weights are Python packages; `hf:ORG/NAME`, a model of the
        Hugging Face hub, which is downloaded unless it is in the local cache; or a folder with `config.json` and
        `model.safetensors`.
    levels : iterable of str
        Names of the levels whose feature maps will be asked for; `backbone_levels` lists them.

    Returns
    -------
    Backbone
        In eval mode, on the processor.

    Raises
    ------
    UsageError
        If there is no such backbone or level, or a package is missing.
    ModelFileError
        If the weights are damaged, of another network, or pickled.
    """
    if name in VARIANTS:
        return EfficientNetLiteBackbone(name, levels, read_weights(name))
    from ganomaly.networks.backbones.hugging_face import load

    return load(name, levels)


def build_backbone(description: Mapping[str, Any]) -> Backbone:
    """Build the backbone that `Backbone.describe` described; `load_state_dict` has to bring its weights.

    Raises
    ------
    UsageError
        If a package is missing.
    ModelFileError
        If this is no description of a backbone that this version knows.
    """
    if "config" in description:
        from ganomaly.networks.backbones.hugging_face import build

        return build(description)
    return EfficientNetLiteBackbone.from_description(description)


def describe_backbone(name: str, levels: Iterable[str] = ()) -> dict[str, Any]:
    """What `build_backbone` needs; takes and raises what `load_backbone` does, without levels `default_levels`."""
    levels = list(levels) or default_levels(name)
    if name in VARIANTS:
        return {"name": name, "levels": list(selected_levels(name, levels, lite_levels(name)))}
    return load_backbone(name, levels).describe()


def installed_backbones() -> list[str]:
    """Names of the backbones whose weights are installed as packages."""
    return [name for name in VARIANTS if is_installed(name)]


def backbone_levels(name: str) -> dict[str, Level]:
    """All levels of a backbone by name, in order of depth; takes and raises what `load_backbone` does."""
    if name in VARIANTS:
        return lite_levels(name)
    from ganomaly.networks.backbones.hugging_face import levels_of

    return levels_of(name)


def default_levels(name: str) -> list[str]:
    """The levels that methods take unless others are named: the deepest of each stride from 8 to 32.

    The last level of all is left out where another has its stride: it tells the classes of the pretraining apart, not
    parts of images. Takes and raises what `load_backbone` does.
    """
    levels = backbone_levels(name)
    strides = [level.stride for level in levels.values()]
    last = list(levels)[-1]
    deepest: dict[int, str] = {}
    for level, (stride, _) in levels.items():
        if 8 <= stride <= 32 and not (level == last and strides.count(stride) > 1):
            deepest[stride] = level
    return list(deepest.values())
