"""A method as it is written on the command line: its name, and the options that differ from its preset."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ganomaly.config import MethodOptions, parse_method_options
from ganomaly.errors import UsageError
from ganomaly.methods import Method, Preset, find_method

_SPEC = re.compile(r"(?P<name>[\w-]+)(?:\[(?P<options>[^\]]*)\])?")
_COMMA_OUTSIDE_BRACKETS = re.compile(r",(?![^\[]*\])")


class ResolvedMethod(NamedTuple):
    """A method and what training needs of it.

    Attributes
    ----------
    method_type : type of Method
        From the registry.
    preset : Preset
        The method's first one.
    options : MethodOptions
        The preset's, updated with those of the spec.
    """

    method_type: type[Method]
    preset: Preset
    options: MethodOptions


@dataclass(frozen=True)
class MethodSpec:
    """A method and the options that differ from its preset's, as `ganomaly[nz=50;contextual_weight=0]`.

    Attributes
    ----------
    name : str
        In the registry.
    options : tuple of (str, str)
        Name and value as written.
    """

    name: str
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> "MethodSpec":
        """Read a method as it is written on the command line.

        Raises
        ------
        UsageError
            If there is no such method or option, or the value is out of range.
        """
        match = _SPEC.fullmatch(text.strip())
        if match is None:
            raise UsageError(
                f"cannot read the method {text!r}; write name, or name[option=value;option=value]"
            )
        options = parse_method_options([part for part in (match["options"] or "").split(";") if part.strip()])
        spec = cls(match["name"], tuple(options.items()))
        spec.resolve()
        return spec

    @property
    def label(self) -> str:
        """As it is written on the command line."""
        options = ";".join(f"{name}={value}" for name, value in self.options)
        return f"{self.name}[{options}]" if options else self.name

    def resolve(self) -> ResolvedMethod:
        """Find the method and check its options.

        Raises
        ------
        UsageError
            If there is no such method or option, or the value is out of range.
        """
        method_type = find_method(self.name)
        preset = next(iter(method_type.presets.values()))
        values = {**preset.options.model_dump(), **dict(self.options)}
        return ResolvedMethod(method_type, preset, method_type.options_type.checked(**values).completed())


def parse_methods(text: str) -> Sequence[MethodSpec]:
    """Read `--methods`: names separated by commas, each with options in brackets where they differ.

    Raises
    ------
    UsageError
        If one of them cannot be read.
    """
    return [MethodSpec.parse(part) for part in _COMMA_OUTSIDE_BRACKETS.split(text) if part.strip()]
