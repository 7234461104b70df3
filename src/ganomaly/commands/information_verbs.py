"""The verbs that show: `ganomaly info` and `ganomaly doctor`."""

import json
from typing import Annotated

import typer

from ganomaly.commands.arguments import AnyModel, Debug
from ganomaly.commands.process import heavy_imports


def info(
    model: AnyModel,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show a model's method, options, threshold and provenance."""
    with heavy_imports():
        from ganomaly.commands.console import Console
        from ganomaly.prediction import describe_model

    description = describe_model(model)
    if as_json:
        print(json.dumps(description, indent=2))
    else:
        Console().table(description)


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Show versions, processor, memory, GPU, and which extras are complete."""
    from ganomaly.commands.console import Console
    from ganomaly.commands.doctor import doctor as run

    run(Console(), as_json=as_json)
