"""Help and errors of the commands in plain words, without the names of Python's types."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

_Function = TypeVar("_Function", bound=Callable[..., Any])


def _without_types(params: Sequence[Any]) -> list[Any]:
    """The same, whose help has no `<bool>` and `<str>`: a metavar says what an option takes."""
    for param in params:
        if isinstance(param, TyperArgument):
            # its own method, since Typer makes arguments of no class but `TyperArgument`
            vars(param)["display_type"] = lambda ctx: ""
        elif isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
    return list(params)


@contextmanager
def _plain_errors() -> Iterator[None]:
    try:
        yield
    except typer.BadParameter as error:
        message = error.message.removeprefix("Value error, ")
        error.message = message.replace("Input should be", "must be", 1)
        raise


class Command(TyperCommand):
    """A command with a plain help."""

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Read the arguments."""
        with _plain_errors():
            return super().make_context(*args, **kwargs)

    def get_params(self, ctx: Any) -> list[Any]:
        """Arguments and options."""
        return _without_types(super().get_params(ctx))


class Commands(typer.Typer):
    """Commands with a plain help."""

    def command(
        self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any
    ) -> Callable[[_Function], _Function]:
        """Register a command."""
        return super().command(name, cls=cls or Command, **settings)


class PlainGroup(TyperGroup):
    """A group of commands with a plain help."""

    def get_params(self, ctx: Any) -> list[Any]:
        """Options."""
        return _without_types(super().get_params(ctx))
