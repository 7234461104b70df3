"""The command line: one short function for each verb.

Nothing heavy is imported until a verb needs it, so that `ganomaly --help` answers at once.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ganomaly import defaults
from ganomaly.commands.arguments import (
    AnyModel,
    Backbone,
    BatchSize,
    BenchmarkData,
    BenchmarkFolder,
    BenchmarkName,
    Channels,
    Classes,
    Data,
    Debug,
    Device,
    Devices,
    Epochs,
    FalseAlarmRate,
    Ignore,
    ImageSize,
    Loggers,
    MethodOption,
    Methods,
    Nodes,
    Precision,
    PresetName,
    Products,
    Protocol,
    Report,
    Seed,
    TaskEngine,
    ValueRange,
    Workers,
    on_this_machine,
    with_backbone,
)
from ganomaly.commands.hub_verbs import pull, push
from ganomaly.commands.information_verbs import doctor, info
from ganomaly.commands.plain_help import Commands
from ganomaly.commands.process import CommandGroup, exit_if_unreadable, heavy_imports, run_app
from ganomaly.commands.search_verbs import fit_all, tune
from ganomaly.commands.station_verbs import serve_app, store_app
from ganomaly.remote.location import Location, location
from ganomaly.version import __version__

if TYPE_CHECKING:
    from ganomaly.commands.console import Console

app = Commands(
    cls=CommandGroup,
    help="Learn what normal images look like, and find the ones that are not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(asked: bool) -> None:
    if asked:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        # eager, so that it works without a command
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    pass


@app.command()
def fit(
    data: Data,
    model: Annotated[
        str, typer.Option(metavar="FILE", help="Model file to write, .safetensors.", show_default=False)
    ],
    preset: PresetName = defaults.AUTO,
    epochs: Epochs = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    seed: Seed = defaults.SEED,
    device: Device = defaults.DEVICE,
    precision: Precision = defaults.PRECISION,
    false_alarm_rate: FalseAlarmRate = defaults.FALSE_ALARM_RATE,
    backbone: Backbone = None,
    ignore: Ignore = None,
    products: Products = False,
    value_range: ValueRange = None,
    option: MethodOption = None,
    log: Loggers = None,
    devices: Devices = None,
    nodes: Nodes = None,
    resume: Annotated[bool, typer.Option(help="Resume from the checkpoint of an interrupted run.")] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done and how long it takes; write nothing.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Train a model on normal images and set its threshold."""
    with heavy_imports():
        from ganomaly.commands.launch import find_place, fit_in_processes

    place = find_place(devices, nodes)
    if place is None and not dry_run and (devices or 1) * (nodes or 1) > 1:
        raise typer.Exit(
            fit_in_processes(location(model), devices=devices or 1, nodes=nodes or 1, resume=resume)
        )
    with heavy_imports():
        from ganomaly.commands.fit import describe_fit, quiet_about_others
        from ganomaly.commands.fit import fit as run
        from ganomaly.config import FitOptions, parse_method_options
        from ganomaly.data.ignored_region import read_ignored_region

    options = FitOptions.checked(
        preset=preset,
        epochs=epochs,
        image_size=image_size,
        channels=channels,
        seed=seed,
        device=device,
        precision=precision,
        false_alarm_rate=false_alarm_rate,
        ignored=None if ignore is None or ignore.is_dir() else read_ignored_region(ignore),
        value_range=value_range,
        method_options=parse_method_options(with_backbone(option, backbone)),
    )
    each = ignore if ignore is not None and ignore.is_dir() else None
    shared: dict[str, Any] = {"resume": resume, "ignore": each, "products": products, "loggers": log or ()}
    if dry_run:
        read = describe_fit(_console(), data, location(model), options, **shared)
    else:
        with quiet_about_others():
            read = run(_console(), data, location(model), options, place=place, **shared)
    exit_if_unreadable(read)


@app.command()
def score(
    model: AnyModel,
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES...",
            help="Images, folders, parquet, or .txt with a path in each line; here or in a store, such as s3://bucket/folder",
            show_default=False,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(metavar="FILE", help="Table to write: .csv, .jsonl or .parquet.", show_default=False),
    ],
    maps: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Folder for anomaly maps and overlays, in subfolders as the images; not the images' own folder.",
        ),
    ] = None,
    map_format: Annotated[
        defaults.MapFormat,
        typer.Option(
            help="png is 16-bit gray with the threshold at mid-gray, npy is raw float32, dcm is the overlay as a "
            "DICOM Secondary Capture in the study of its image."
        ),
    ] = defaults.MAP_FORMAT,
    report: Report = None,
    ignore: Ignore = None,
    batch_size: BatchSize = defaults.BATCH_SIZE,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(
            help="ray: several processes, on this machine or a cluster; --out is then a folder of parquet."
        ),
    ] = "local",
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Score images with a model: one row per image, in input order."""
    with heavy_imports():
        from ganomaly.commands.engine import check_engine
        from ganomaly.commands.score import score as run

    check_engine(engine, workers, {"--maps": maps, "--report": report, "--ignore": ignore})
    sources = [location(path) for path in images]
    if engine == "ray":
        with heavy_imports():
            from ganomaly.commands.score_in_parts import score_in_parts

        exit_if_unreadable(
            score_in_parts(
                _console(), location(model), sources, location(out), n_workers=workers, batch_size=batch_size
            )
        )
        return
    exit_if_unreadable(
        run(
            _console(),
            location(model),
            sources,
            location(out),
            maps=_location(maps),
            map_format=map_format,
            report=_location(report),
            ignore=ignore,
            batch_size=batch_size,
        )
    )


@app.command()
def update(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model written by `fit`.", show_default=False)
    ],
    data: Data,
    out: Annotated[
        str,
        typer.Option(
            "--model", metavar="FILE", help="Updated model to write, .safetensors.", show_default=False
        ),
    ],
    ignore: Ignore = None,
    debug: Debug = False,
) -> None:
    """Add normal images to a model's memory banks and calibration, without training."""
    with heavy_imports():
        from ganomaly.commands.update import update as run

    exit_if_unreadable(run(_console(), location(model), data, location(out), ignore=ignore))


@app.command()
def evaluate(
    model: AnyModel,
    data: Data,
    json_path: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="JSON file for the metrics.")
    ] = None,
    report: Report = None,
    figures: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for the ROC curve, score histogram and reconstructions.",
            callback=on_this_machine,
        ),
    ] = None,
    audit: Annotated[
        bool,
        typer.Option(
            "--audit",
            help="Predict images with their defects painted out too: does the model see the defects? Needs masks.",
        ),
    ] = False,
    ignore: Ignore = None,
    batch_size: BatchSize = defaults.BATCH_SIZE,
    debug: Debug = False,
) -> None:
    """Measure a model on labelled images: AUROC, detection rate and more, for each kind of anomaly too."""
    with heavy_imports():
        from ganomaly.commands.evaluate import evaluate as run

    exit_if_unreadable(
        run(
            _console(),
            location(model),
            data,
            json_path=_location(json_path),
            report=_location(report),
            figures=figures,
            audit=audit,
            ignore=ignore,
            batch_size=batch_size,
        )
    )


@app.command()
def benchmark(
    name: BenchmarkName,
    out: BenchmarkFolder,
    data: BenchmarkData = None,
    methods: Methods = "ganomaly,egbad,vae",
    classes: Classes = None,
    seeds: Annotated[str, typer.Option(metavar="LIST", help="Seeds, separated by commas.")] = str(
        defaults.SEED
    ),
    epochs: Epochs = None,
    protocol: Protocol = "clean",
    train_images: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Most training images to use.")
    ] = None,
    test_images: Annotated[
        int | None, typer.Option(metavar="N", min=2, help="Most test images to use, roughly.")
    ] = None,
    image_size: ImageSize = None,
    precision: Precision = defaults.PRECISION,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, help="Trainings to run in parallel.")] = 1,
    engine: TaskEngine = "local",
    workers: Workers = None,
    json_path: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="JSON file for the rows.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare methods on a dataset: one row per class, method and seed, saved as soon as it is done."""
    with heavy_imports():
        from ganomaly.commands.benchmark import benchmark as run
        from ganomaly.commands.engine import task_runner

        folder = location(out)
        runner = task_runner(engine, folder, jobs=jobs, workers=workers)
    run(
        _console(),
        name,
        _location(data),
        folder,
        methods=methods,
        classes=classes,
        seeds=seeds,
        protocol=protocol,
        epochs=epochs,
        train_images=train_images,
        test_images=test_images,
        image_size=image_size,
        precision=precision,
        run=runner,
        json_path=_location(json_path),
    )


@app.command()
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Model written by `fit`.", show_default=False)
    ],
    out: Annotated[
        str,
        typer.Option(metavar="FILE", help="Graph to write: .onnx, or .xml for OpenVINO.", show_default=False),
    ],
    file_format: Annotated[
        Literal["onnx", "openvino"], typer.Option("--format", help="Runtime that will run the graph.")
    ] = "onnx",
    int8: Annotated[
        bool, typer.Option("--int8", help="Quantize the networks to 8 bits; needs --data.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA", help="The data the model was fitted on, to quantize with.", show_default=False
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Export a model as one graph, from raw pixels to verdict, that runs without ganomaly and PyTorch."""
    with heavy_imports():
        from ganomaly.commands.export import export as run

    run(_console(), location(model), location(out), file_format, int8=int8, data=data)


app.command()(tune)
app.command("fit-all")(fit_all)
app.add_typer(serve_app, name="serve")
app.add_typer(store_app, name="store")


@app.command()
def demo(
    out: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Folder for images, model and report.", callback=on_this_machine),
    ] = Path("demo"),
    debug: Debug = False,
) -> None:
    """Try it on simulated X-ray baggage: generate images, train, evaluate, report."""
    with heavy_imports():
        from ganomaly.commands.demo import demo as run

    exit_if_unreadable(run(_console(), out))


app.command()(info)
app.command()(doctor)
app.command()(push)
app.command()(pull)


def main() -> None:
    """Run the command line."""
    run_app(app)


def _location(path: str | None) -> Location | None:
    return None if path is None else location(path)


def _console() -> "Console":
    from ganomaly.commands.console import Console

    return Console()
