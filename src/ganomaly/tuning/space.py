"""The search space: options that the method lists, the image size, and the backbone with its levels.

What the user has chosen is not searched. The first trial is the preset as it is.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution

from ganomaly.config import AUTO, FitOptions, MethodOptions
from ganomaly.data import Inspection, suggested_image_size
from ganomaly.methods import Preset, find_preset
from ganomaly.methods.search_space import BackboneLevels, Choice, InstalledBackbone, Range, Searched
from ganomaly.networks.backbones import default_levels, installed_backbones
from ganomaly.training.plan import preset_options, suggested_preset

IMAGE_SIZE = "image_size"
ALL_LEVELS = "all"
LEVEL_SETS = {
    ALL_LEVELS: slice(None),
    "without the first": slice(1, None),
    "without the deepest": slice(None, -1),
}
"""Of the levels that a backbone gives by default."""

_SQUARE_SIZES = (32, 64, 128)  # px
_PATCH_SHARES = (0.75, 1.0, 1.5)  # of the preset's image size


@dataclass(frozen=True)
class SearchSpace:
    """What a search varies, and how `FitOptions` follow from it.

    Attributes
    ----------
    base : FitOptions
        What the user chose; the preset by its name.
    distributions : mapping of str to BaseDistribution
        By the name of the option.
    start : mapping of str to value
        The preset's own values.
    """

    base: FitOptions
    distributions: Mapping[str, BaseDistribution]
    start: Mapping[str, Any]

    @classmethod
    def of(cls, options: FitOptions, inspection: Inspection) -> "SearchSpace":
        """The space of a preset for these images, without what the user has chosen."""
        name = suggested_preset(inspection, options.channels) if options.preset == AUTO else options.preset
        base = options.model_copy(update={"preset": name})
        method_type, preset = find_preset(name)
        distributions: dict[str, BaseDistribution] = {}
        start: dict[str, Any] = {}
        if options.image_size is None:
            sizes, start[IMAGE_SIZE] = _image_sizes(preset, inspection)
            distributions[IMAGE_SIZE] = CategoricalDistribution(sizes)
        asked = preset_options(name, options.method_options)
        for option, searched in method_type.search_space.items():
            if option not in options.method_options:
                distributions[option], start[option] = _distribution(option, searched, asked)
        varied = {name for name, distribution in distributions.items() if not distribution.single()}
        return cls(
            base,
            {name: distribution for name, distribution in distributions.items() if name in varied},
            {name: value for name, value in start.items() if name in varied},
        )

    def options(self, values: Mapping[str, Any]) -> FitOptions:
        """What to fit with, for a value of each option."""
        method_options = {**self.base.method_options, **values}
        image_size = method_options.pop(IMAGE_SIZE, self.base.image_size)
        if "levels" in values:
            backbone = method_options.get("backbone", _default(self.base.preset, "backbone"))
            method_options["levels"] = _level_names(str(backbone), values["levels"])
        return self.base.model_copy(update={"image_size": image_size, "method_options": method_options})

    def in_words(self) -> str:
        """The options and where they are searched."""
        return ", ".join(
            f"{name.replace('_', ' ')} {_in_words(distribution)}"
            for name, distribution in self.distributions.items()
        )


def _image_sizes(preset: Preset, inspection: Inspection) -> tuple[list[int], int]:
    """Sizes to try, in pixels, and the one that the preset takes."""
    if preset.patches is None:
        start = suggested_image_size(inspection)
        largest = inspection.median_shorter_side
        return [size for size in _SQUARE_SIZES if size == start or size <= largest], start
    start = preset.patches.image_size
    side = math.sqrt(inspection.median_height * inspection.median_width)
    sizes = [round(share * start) for share in _PATCH_SHARES]
    # images are never enlarged, so all sizes above theirs are the same, and one of them is enough
    larger = [start] if start >= side else [size for size in sizes if size >= side][:1]
    return sorted({*(size for size in sizes if size < side), *larger}), start


def _distribution(option: str, searched: Searched, options: MethodOptions) -> tuple[BaseDistribution, Any]:
    """Where an option is searched, and the preset's value."""
    start = getattr(options, option)
    match searched:
        case Range(low, high, log):
            return FloatDistribution(low, high, log=log), start
        case Choice(values):
            return CategoricalDistribution(values), start
        case InstalledBackbone():
            names = [start, *(name for name in installed_backbones() if name != start)]
            return CategoricalDistribution(names), start
        case BackboneLevels():
            backbone = str(getattr(options, "backbone"))  # noqa: B009 - methods with levels have one
            sets = list(LEVEL_SETS) if len(default_levels(backbone)) > 1 else [ALL_LEVELS]
            return CategoricalDistribution(sets), ALL_LEVELS


def _level_names(backbone: str, level_set: str) -> str:
    if level_set == ALL_LEVELS:
        return ""
    return ",".join(default_levels(backbone)[LEVEL_SETS[level_set]])


def _default(preset: str, option: str) -> Any:
    return getattr(find_preset(preset)[1].options, option)


def _in_words(distribution: BaseDistribution) -> str:
    if isinstance(distribution, CategoricalDistribution):
        return " | ".join(str(choice) for choice in distribution.choices)
    assert isinstance(distribution, FloatDistribution)
    return f"{distribution.low:g} to {distribution.high:g}"
