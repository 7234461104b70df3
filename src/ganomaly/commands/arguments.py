"""Arguments and options that the commands declare, with their help."""

import math
from pathlib import Path
from typing import Annotated, Literal

import typer

from ganomaly import defaults
from ganomaly.errors import UsageError
from ganomaly.remote.location import is_remote, location


def parse_rate(text: str | float) -> float:
    """A share, as 0.01 or 1%."""
    digits = str(text).strip()
    try:
        rate = float(digits.removesuffix("%")) / (100 if digits.endswith("%") else 1)
    except ValueError:
        rate = math.nan
    if not 0 <= rate <= 1:
        raise typer.BadParameter(f"{digits!r} is not a share between 0 and 1; write it as 0.01 or 1%")
    return rate


def on_this_machine(path: Path | None) -> Path | None:
    """A path, which is no address; one that became a path has lost a slash.

    Raises
    ------
    UsageError
        If it is one.
    """
    address = "" if path is None else path.as_posix().replace(":/", "://", 1)
    if is_remote(address):
        raise UsageError(f"{location(address)} is in a store; name a path on this machine")
    return path


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="Folder of images, dataset folder in MVTec AD layout, or parquet; here or in a store, such as s3://bucket/folder",
        show_default=False,
    ),
]
AnyModel = Annotated[
    str,
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
Report = Annotated[str | None, typer.Option(metavar="FILE", help="HTML report to write; it opens offline.")]
Backbone = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Pretrained network of the features: a name, a folder, or hf:ORG/NAME, which is downloaded.",
    ),
]
Ignore = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK|DIR",
        help="Image that is not 0 where all images are to be ignored, such as a jig or a clock; or a folder with "
        "a mask for each image, of the same name.",
        callback=on_this_machine,
    ),
]
IgnoreMask = Annotated[
    Path | None,
    typer.Option(
        metavar="MASK",
        help="Image that is not 0 where all images are to be ignored, such as a jig or a clock.",
        callback=on_this_machine,
    ),
]
Products = Annotated[
    bool,
    typer.Option(
        "--products",
        help="One model of several products: each subfolder of the normal images, or label of parquet, is one.",
    ),
]
ValueRange = Annotated[
    tuple[float, float] | None,
    typer.Option(
        metavar="LOW HIGH",
        help="Physical values (DICOM, floating point) that become black and white \\[default: measured].",
    ),
]
Loggers = Annotated[
    list[str] | None,
    typer.Option(
        metavar="LOGGER",
        help="Log training to tensorboard:DIR, mlflow:URI or wandb:PROJECT; repeatable.",
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
PresetName = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="features, small, small-features, patches, paper, or another method's; auto chooses by size and colour.",
    ),
]
Channels = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        max=4,
        help="Channels of the network input, 1 for gray, 3 for colour \\[default: from the images].",
    ),
]
Seed = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Random seed: same seed, machine and software, same weights."),
]
Device = Annotated[
    defaults.Device, typer.Option(metavar="NAME", help="Device to compute on: auto, cpu or cuda.")
]
Devices = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Devices of this machine to train on, each with a process of its own \\[default: 1].",
    ),
]
Nodes = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=1,
        help="Machines to train on; run the same command on each, or use torchrun or srun.",
    ),
]
FalseAlarmRate = Annotated[
    float,
    typer.Option(
        metavar="RATE",
        parser=parse_rate,
        help="Share of normal images that may be called anomalous; the threshold follows from it.",
    ),
]
MethodOption = Annotated[
    list[str] | None,
    typer.Option(metavar="NAME=VALUE", help="Set an option of the method, such as nz=64; repeatable."),
]
TaskEngine = Annotated[
    Literal["local", "ray"],
    typer.Option(
        help="ray: on RAY_ADDRESS's cluster, whose machines all reach --out, or else on this machine."
    ),
]
Workers = Annotated[
    int | None,
    typer.Option(
        metavar="N", min=1, help="Processes of --engine ray \\[default: one for each GPU or processor]."
    ),
]
BenchmarkName = Annotated[
    str,
    typer.Argument(
        metavar="NAME",
        help="mnist, cifar10, baggage (simulated), elpv (solar cells), "
        "or any name for a folder in MVTec AD layout.",
        show_default=False,
    ),
]
BenchmarkFolder = Annotated[
    str,
    typer.Option(
        metavar="DIR",
        help="Folder for rows, tables and figures, here or in a store. Results are cached in it: use a new one for "
        "other data.",
        show_default=False,
    ),
]
BenchmarkData = Annotated[
    str | None,
    typer.Option(
        metavar="DIR",
        help="Folder of the dataset, here or in a store; not needed for baggage and elpv.",
    ),
]
Methods = Annotated[
    str,
    typer.Option(
        metavar="LIST",
        help="Methods, separated by commas; options in brackets: ganomaly\\[nz=50;ngf=32].",
    ),
]
Classes = Annotated[
    str | None,
    typer.Option(
        metavar="LIST",
        help="Classes to treat as anomalous, separated by commas \\[default: all, in turn].",
    ),
]
Protocol = Annotated[
    Literal["clean", "published"],
    typer.Option(help="published repeats the authors' released code, which leaks test data."),
]


def with_backbone(option: list[str] | None, backbone: str | None) -> list[str]:
    """Options of the method as `--option` has them, and `--backbone`, which is one of them."""
    return [*(option or []), *([] if backbone is None else [f"backbone={backbone}"])]
