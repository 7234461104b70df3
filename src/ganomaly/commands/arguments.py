"""Arguments and options that the commands declare, with their help."""

from pathlib import Path
from typing import Annotated

import typer

from ganomaly import defaults

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder of images, dataset folder in MVTec AD layout, or parquet.",
        show_default=False,
    ),
]
AnyModel = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="Model written by `fit`, or graph written by `export`.", show_default=False
    ),
]
Epochs = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="Passes over the training images \\[default: the preset's]."),
]
ImageSize = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Side of the network input in pixels \\[default: from the images]."
    ),
]
Precision = Annotated[
    defaults.Precision,
    typer.Option(
        metavar="NAME", help="Precision of training: auto, fp32 or bf16; scores are always computed in fp32."
    ),
]
Report = Annotated[Path | None, typer.Option(metavar="FILE", help="HTML report to write; it opens offline.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Pretrained network of the preset features: a name, a folder, or hf:ORG/NAME, which is downloaded.",
    ),
]
Ignore = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK",
        help="Image that is not 0 where all images are to be ignored, such as a jig or a clock.",
    ),
]
BatchSize = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        help="Images per batch; changes memory and speed, not scores. features and patches take one at a time.",
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
