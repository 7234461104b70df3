"""The door for the shell: one short function for each verb.

Nothing heavy is imported until a verb needs it, so that `ganomaly --help` answers at once.
"""

import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from ganomaly.errors import GANomalyError, package_needed
from ganomaly.version import __version__

if TYPE_CHECKING:
    from ganomaly.commands.console import Console

UNREADABLE_IMAGES = 3
INTERRUPTED = 130  # what shells expect
KEPT_WHEN_INTERRUPTED = {
    "fit": "no model was written, and the same command goes on from the last checkpoint",
    "benchmark": "rows of finished cells are kept, and the same command goes on from there",
    "score": "no table or report was written; maps that were written stay",
    "demo": "what was written so far stays",
}


class InterruptionError(GANomalyError):
    """The user pressed Ctrl-C."""

    exit_status = INTERRUPTED


class _Verbs(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        # typer would leave without a word
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            kept = KEPT_WHEN_INTERRUPTED.get(str(ctx.invoked_subcommand), "no output file was touched")
            raise InterruptionError(f"interrupted; {kept}") from None


app = typer.Typer(
    cls=_Verbs,
    help="Learn what normal images look like, and find the ones that are not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class DeviceName(StrEnum):
    """Where to compute."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class PrecisionName(StrEnum):
    """How training computes."""

    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class MapFormatName(StrEnum):
    """How anomaly maps are written."""

    png = "png"
    npy = "npy"


Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA", help="Folder of images, MVTec AD dataset folder, or parquet.", show_default=False
    ),
]
PredictorPath = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL", help="A model made by `fit`, or a graph by `export`.", show_default=False
    ),
]
ReportPath = Annotated[Path | None, typer.Option(help="Write an HTML report that opens offline.")]
BatchSize = Annotated[
    int,
    typer.Option(
        min=1, help="Images per step; changes memory and speed, not scores. Preset patches takes one."
    ),
]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _say_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        # eager: a version is told without a command, which is missed otherwise
        typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and leave."),
    ] = False,
) -> None:
    pass


@app.command()
def fit(
    data: Data,
    model: Annotated[
        Path, typer.Option(help="Where to write the model, a .safetensors file.", show_default=False)
    ],
    preset: Annotated[
        str, typer.Option(help="patches, small, paper or a method's; auto chooses by the size of the images.")
    ] = "auto",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images \\[default: the preset's].")
    ] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the network input in pixels \\[default: from the data]."),
    ] = None,
    channels: Annotated[
        int | None,
        typer.Option(min=1, max=4, help="Channels of the network input \\[default: those of the images]."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, machine and software: same weights.")] = 0,
    device: Annotated[DeviceName, typer.Option(help="Where to compute.")] = DeviceName.auto,
    precision: Annotated[PrecisionName, typer.Option(help="How training computes.")] = PrecisionName.auto,
    false_alarm_rate: Annotated[
        float, typer.Option(help="Share of new normal images that may be called anomalous.")
    ] = 0.01,
    resume: Annotated[bool, typer.Option(help="Go on from the checkpoint of a run that was stopped.")] = True,
    debug: Debug = False,
) -> None:
    """Learn from normal images, and write a model."""
    with _starting():
        from ganomaly.commands.fit import fit as run
        from ganomaly.config import FitOptions

    settings = FitOptions.checked(
        preset=preset,
        epochs=epochs,
        image_size=image_size,
        channels=channels,
        seed=seed,
        device=device.value,
        precision=precision.value,
        false_alarm_rate=false_alarm_rate,
    )
    _leave(run(_console(), data, model, settings, resume=resume))


@app.command()
def score(
    model: PredictorPath,
    images: Annotated[
        list[Path],
        typer.Argument(
            metavar="IMAGES...", help="Images, folders of images, or parquet.", show_default=False
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Table of verdicts: .csv, .jsonl or .parquet.", show_default=False)
    ],
    maps: Annotated[
        Path | None, typer.Option(help="Folder for anomaly maps, and for their heat over the images.")
    ] = None,
    map_format: Annotated[
        MapFormatName, typer.Option(help="16-bit gray on the scale of the threshold, or raw float32.")
    ] = MapFormatName.png,
    report: ReportPath = None,
    batch_size: BatchSize = 64,
    debug: Debug = False,
) -> None:
    """Predictor images with a model: one row for each, in input order."""
    with _starting():
        from ganomaly.commands.score import score as run

    _leave(
        run(
            _console(),
            model,
            images,
            out,
            maps=maps,
            map_format=map_format.value,
            report=report,
            batch_size=batch_size,
        )
    )


@app.command()
def evaluate(
    model: PredictorPath,
    data: Data,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the figures as JSON.")] = None,
    report: ReportPath = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for ROC, histogram and reconstructions.")
    ] = None,
    batch_size: BatchSize = 64,
    debug: Debug = False,
) -> None:
    """Measure a model on labelled images: normal ones and anomalous ones, kind by kind."""
    with _starting():
        from ganomaly.commands.evaluate import evaluate as run

    _leave(
        run(
            _console(),
            model,
            data,
            json_path=json_path,
            report=report,
            figures=figures,
            batch_size=batch_size,
        )
    )


class ProtocolName(StrEnum):
    """How a benchmark measures."""

    clean = "clean"
    published = "published"


@app.command()
def benchmark(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="mnist, cifar10, baggage (simulated), or any name for a folder in MVTec AD layout.",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for rows and tables; what is measured there is kept, so take another for other images.",
            show_default=False,
        ),
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the images; not needed for simulated baggage.")
    ] = None,
    methods: Annotated[
        str, typer.Option(help="Methods, separated by commas; options in brackets: ganomaly\\[nz=50;ngf=32].")
    ] = "ganomaly,egbad,vae",
    classes: Annotated[
        str | None,
        typer.Option(help="Classes that count as anomalous, separated by commas \\[default: all]."),
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds, separated by commas.")] = "0",
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the images \\[default: the preset's].")
    ] = None,
    protocol: Annotated[
        ProtocolName, typer.Option(help="clean, or what the authors' released code did (it leaks).")
    ] = ProtocolName.clean,
    train_images: Annotated[int | None, typer.Option(min=2, help="Train on so many images only.")] = None,
    test_images: Annotated[int | None, typer.Option(min=2, help="Test on about so many images only.")] = None,
    image_size: Annotated[
        int | None,
        typer.Option(min=1, help="Side of the network input in pixels \\[default: from the data]."),
    ] = None,
    precision: Annotated[PrecisionName, typer.Option(help="How training computes.")] = PrecisionName.auto,
    jobs: Annotated[int, typer.Option(min=1, help="Cells at a time.")] = 1,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the rows as JSON.")] = None,
    debug: Debug = False,
) -> None:
    """Compare methods on a data set: each class, method and seed is a row that is kept as soon as it is done."""
    with _starting():
        from ganomaly.commands.benchmark import benchmark as run

    run(
        _console(),
        name,
        data,
        out,
        methods=methods,
        classes=classes,
        seeds=seeds,
        protocol=protocol.value,
        epochs=epochs,
        train_images=train_images,
        test_images=test_images,
        image_size=image_size,
        precision=precision.value,
        jobs=jobs,
        json_path=json_path,
    )


class ExportFormatName(StrEnum):
    """What an exported graph is written as."""

    onnx = "onnx"
    openvino = "openvino"


@app.command()
def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file made by `fit`.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(help="Where to write the graph: .onnx, or .xml for OpenVINO.", show_default=False),
    ],
    file_format: Annotated[
        ExportFormatName, typer.Option("--format", help="For ONNX Runtime, or for OpenVINO.")
    ] = ExportFormatName.onnx,
    int8: Annotated[
        bool, typer.Option("--int8", help="Compute the networks in 8 bits, and say what that costs.")
    ] = False,
    data: Annotated[
        str | None, typer.Option(help="What the model was fitted on, for --int8.", show_default=False)
    ] = None,
    debug: Debug = False,
) -> None:
    """Write a model as one graph, from the user's pixels to the verdict, that runs without ganomaly and PyTorch."""
    with _starting():
        from ganomaly.commands.export import export as run

    run(_console(), model, out, file_format.value, int8=int8, data=data)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for images, model and report.")] = Path("demo"),
    debug: Debug = False,
) -> None:
    """Run the whole job on simulated X-ray baggage: make images, train, evaluate, report."""
    with _starting():
        from ganomaly.commands.demo import demo as run

    _leave(run(_console(), out))


@app.command()
def info(
    model: PredictorPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Tell what a model holds and where it comes from."""
    with _starting():
        from ganomaly.prediction import describe_model

    description = describe_model(model)
    if as_json:
        print(json.dumps(description, indent=2))
    else:
        _console().table(description)


def main() -> None:
    """Run the command line; the one place where errors become sentences and exit statuses."""
    debug = "--debug" in sys.argv
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a code page without φ must not cost the figures
    try:
        app()
    except GANomalyError as error:
        _fail(str(error), error.exit_status, error if debug else None)
    except BrokenPipeError:
        # whoever read our output has seen enough; nothing is left to say to them
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _fail(
            f"unexpected {type(error).__name__}: {error}; this is a bug in ganomaly, --debug shows where",
            1,
            error if debug else None,
        )


@contextmanager
def _starting() -> Iterator[None]:
    """Import in this block: Ctrl-C ends the process at once, since nothing was begun that must be put in order.

    A `KeyboardInterrupt` would now and then be lost there: some packages swallow what goes wrong in an import.
    """
    before = signal.getsignal(signal.SIGINT)
    with package_needed("this"):
        if (
            before is not signal.default_int_handler
        ):  # whoever started us has seen to it, or it is to be ignored
            yield
            return
        signal.signal(signal.SIGINT, _leave_at_once)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)


def _leave_at_once(*_: object) -> NoReturn:
    os.write(2, b"ganomaly: interrupted before anything was begun\n")
    os._exit(INTERRUPTED)


def _console() -> "Console":
    from ganomaly.commands.console import Console

    return Console()


def _leave(all_read: bool) -> None:
    if not all_read:
        raise typer.Exit(UNREADABLE_IMAGES)


def _fail(sentence: str, exit_status: int, error: BaseException | None = None) -> None:
    if error is not None:
        raise error
    print(f"ganomaly: {sentence}", file=sys.stderr)
    sys.exit(exit_status)
