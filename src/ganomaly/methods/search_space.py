"""What is worth searching of a method's options; each method lists its own as `Method.search_space`.

An option that is not listed stays at the preset's value: it hardly changes what is found, or it follows from others.
Every listed range contains the value of the method's presets, so that a search can begin with a preset.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, which are included.

    Attributes
    ----------
    low, high : float
        The ends.
    log : bool
        Whether factors count, not differences, as for a learning rate.
    """

    low: float
    high: float
    log: bool = True


@dataclass(frozen=True)
class Choice:
    """One of some values.

    Attributes
    ----------
    values : tuple
        Texts or numbers.
    """

    values: tuple[str | int | float, ...]


@dataclass(frozen=True)
class InstalledBackbone:
    """A pretrained network, of those whose weights are installed."""


@dataclass(frozen=True)
class BackboneLevels:
    """Some of the levels that `networks.backbones.default_levels` gives, whose names each backbone has for itself."""


Searched = Range | Choice | InstalledBackbone | BackboneLevels
"""What an option may be searched in."""

DCGAN: Mapping[str, Searched] = {
    "nz": Choice((32, 64, 100, 200)),
    "ngf": Choice((32, 64, 96)),
    "learning_rate": Range(5e-5, 2e-3),
}
"""Of methods with the networks of the DCGAN."""
