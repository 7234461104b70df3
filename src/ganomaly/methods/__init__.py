"""The methods, by name: one file each, and one line in `METHODS`."""

from ganomaly.errors import UsageError
from ganomaly.methods.base import Method, Precision, Preset
from ganomaly.methods.ganomaly import GANomaly

METHODS: dict[str, type[Method]] = {
    method.name: method
    for method in (
        GANomaly,  # Akcay et al., ACCV 2018
    )
}


def find_method(name: str) -> type[Method]:
    """Look a method up by its name.

    Raises
    ------
    UsageError
        If there is none; it lists those there are.
    """
    if name not in METHODS:
        raise UsageError(f"unknown method {name!r}; there are: {', '.join(sorted(METHODS))}")
    return METHODS[name]


def find_preset(name: str) -> tuple[type[Method], Preset]:
    """Look a preset up by its name, over all methods.

    Raises
    ------
    UsageError
        If there is none; it lists those there are.
    """
    known = {preset: method for method in METHODS.values() for preset in method.presets}
    if name not in known:
        raise UsageError(f"unknown preset {name!r}; there are: {', '.join(sorted(known))}")
    return known[name], known[name].presets[name]


__all__ = ["METHODS", "Method", "Precision", "Preset", "find_method", "find_preset"]
