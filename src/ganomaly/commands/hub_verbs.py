"""`ganomaly push` and `ganomaly pull`: models on a hub."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from ganomaly.commands.arguments import Debug, on_this_machine
from ganomaly.commands.process import heavy_imports
from ganomaly.errors import UsageError

Repository = Annotated[
    str,
    typer.Argument(
        metavar="ORG/NAME", help="Repository of the Hugging Face hub, or a folder.", show_default=False
    ),
]


def push(
    model: Annotated[
        Path,
        typer.Argument(
            metavar="MODEL", help="Model written by `fit`.", show_default=False, callback=on_this_machine
        ),
    ],
    repository: Repository,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Figures for the model card, as `evaluate --json` writes them.",
            callback=on_this_machine,
        ),
    ] = None,
    licence: Annotated[
        str | None,
        typer.Option("--license", metavar="NAME", help="Licence of the model, such as apache-2.0."),
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    debug: Debug = False,
) -> None:
    """Publish a model with its model card on a hub, or in a folder."""
    with heavy_imports():
        from ganomaly.commands.console import Console
        from ganomaly.hub import push_model

    given = None if figures is None else _read_figures(figures)
    where = push_model(model, repository, figures=given, licence=licence, private=private)
    missing = [
        what
        for what, value in (("figures (--figures FILE)", given), ("licence (--license NAME)", licence))
        if value is None
    ]
    without = f"; its card has no {' and no '.join(missing)}" if missing else ""
    Console().say(f"pushed {model} to {where}{without}")


def pull(
    repository: Repository,
    model: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="Model file to write, .safetensors.",
            show_default=False,
            callback=on_this_machine,
        ),
    ],
    revision: Annotated[
        str | None, typer.Option(metavar="NAME", help="Branch, tag or commit \\[default: the newest].")
    ] = None,
    debug: Debug = False,
) -> None:
    """Fetch a model from a hub, and check it."""
    with heavy_imports():
        from ganomaly.commands.console import Console
        from ganomaly.hub import pull_model

    pull_model(repository, model, revision=revision)
    Console().say(f"pulled {repository}; wrote {model}")


def _read_figures(path: Path) -> dict[str, Any]:
    try:
        figures = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read the figures in {path}: {error}") from error
    if not isinstance(figures, dict) or "image_auroc" not in figures:
        raise UsageError(f"{path} holds no figures; name what `ganomaly evaluate --json` wrote")
    return figures
