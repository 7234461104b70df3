"""Frozen, pretrained networks whose feature maps methods use.

`load_backbone` reads pretrained weights by the name of the backbone; `build_backbone` makes the network alone, for a
model file that holds the weights itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from ganomaly.networks.backbones.base import Backbone, Level
from ganomaly.networks.backbones.lite import VARIANTS, EfficientNetLiteBackbone, lite_levels, read_weights

DEFAULT_BACKBONE = "efficientnet-lite0"

__all__ = ["DEFAULT_BACKBONE", "Backbone", "Level", "backbone_levels", "build_backbone", "load_backbone"]


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


def backbone_levels(name: str) -> dict[str, Level]:
    """All levels of a backbone by name, in order of depth; takes and raises what `load_backbone` does."""
    if name in VARIANTS:
        return lite_levels(name)
    from ganomaly.networks.backbones.hugging_face import levels_of

    return levels_of(name)
