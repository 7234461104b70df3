"""The verbs that show: `ganomaly info` and `ganomaly doctor`."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from ganomaly.commands.arguments import AnyModel, Debug
from ganomaly.commands.process import heavy_imports

if TYPE_CHECKING:
    from ganomaly.commands.console import Console


def info(
    model: AnyModel,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show a model's method, options, threshold and provenance."""
    with heavy_imports():
        from ganomaly.prediction import describe_model

    description = describe_model(model)
    if as_json:
        print(json.dumps(description, indent=2))
    else:
        _console().table(description)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show versions, processor, memory, GPU, and which extras are complete."""
    from ganomaly.commands.doctor import doctor as run

    run(_console(), as_json=as_json)


def _console() -> "Console":
    from ganomaly.commands.console import Console

    return Console()
