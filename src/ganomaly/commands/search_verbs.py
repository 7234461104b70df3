"""The verbs that fit many times: `ganomaly tune` and `ganomaly fit-all`."""

from pathlib import Path
from typing import Annotated

import typer

from ganomaly import defaults
from ganomaly.commands.arguments import (
    Backbone,
    Channels,
    Data,
    Debug,
    Device,
    Epochs,
    FalseAlarmRate,
    IgnoreMask,
    ImageSize,
    Loggers,
    MethodOption,
    Precision,
    PresetName,
    Report,
    Seed,
    TaskEngine,
    ValueRange,
    Workers,
    on_this_machine,
    with_backbone,
)
from ganomaly.commands.process import exit_if_unreadable, heavy_imports
from ganomaly.remote.location import location

ModelFile = Annotated[
    str, typer.Option(metavar="FILE", help="Model file to write, .safetensors.", show_default=False)
]
Trials = Annotated[int, typer.Option(metavar="N", min=1, help="Trials in all; the first is the preset.")]
Storage = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="GANOMALY_TUNE_STORAGE",
        help="Database that processes share and a later run goes on with: sqlite:///FILE or postgresql://… "
        "\\[default: a file beside the model].",
    ),
]
Budget = Annotated[
    float,
    typer.Option(
        metavar="SHARE",
        min=0.001,
        max=1,
        help="Share of the whole training that a trial gets, steps and images; the best is fitted with all of it.",
    ),
]
MaxMs = Annotated[
    float | None,
    typer.Option(
        metavar="N", min=0.001, help="Longest time for one image, in milliseconds, on this machine as it is."
    ),
]
Labelled = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="Search with these labelled images instead of synthetic defects; their labels leak into the model.",
    ),
]


def tune(
    data: Data,
    model: ModelFile,
    trials: Trials = defaults.TRIALS,
    storage: Storage = None,
    budget: Budget = defaults.TRIAL_BUDGET,
    max_ms: MaxMs = None,
    labelled: Labelled = None,
    report: Report = None,
    preset: PresetName = defaults.AUTO,
    epochs: Epochs = None,
    image_size: ImageSize = None,
    channels: Channels = None,
    seed: Seed = defaults.SEED,
    device: Device = defaults.DEVICE,
    precision: Precision = defaults.PRECISION,
    false_alarm_rate: FalseAlarmRate = defaults.FALSE_ALARM_RATE,
    backbone: Backbone = None,
    ignore: IgnoreMask = None,
    value_range: ValueRange = None,
    option: MethodOption = None,
    log: Loggers = None,
    debug: Debug = False,
) -> None:
    """Search the options with which a preset finds defects best, from normal images alone, and fit with them.

    What is set here (image size, backbone, options) is not searched. Start the command several times to search with
    several processes; a search that was stopped goes on.
    """
    with heavy_imports("tune"):
        from ganomaly.commands.console import Console
        from ganomaly.commands.tune import tune as run
        from ganomaly.config import FitOptions, parse_method_options
        from ganomaly.data.ignored_region import read_ignored_region
        from ganomaly.errors import UsageError
        from ganomaly.tuning import SearchOptions

    if ignore is not None and ignore.is_dir():
        raise UsageError(
            f"{ignore} is a folder, and a search takes one mask for all images; name an image, or use `ganomaly fit`"
        )
    options = FitOptions.checked(
        preset=preset,
        epochs=epochs,
        image_size=image_size,
        channels=channels,
        seed=seed,
        device=device,
        precision=precision,
        false_alarm_rate=false_alarm_rate,
        ignored=None if ignore is None else read_ignored_region(ignore),
        value_range=value_range,
        method_options=parse_method_options(with_backbone(option, backbone)),
    )
    asked = SearchOptions(trials, budget, max_ms, labelled)
    exit_if_unreadable(
        run(
            Console(),
            data,
            location(model),
            options,
            asked,
            storage=storage,
            report=None if report is None else location(report),
            loggers=log or (),
        )
    )


def fit_all(
    catalog: Annotated[
        Path,
        typer.Argument(
            metavar="CATALOG",
            help="YAML file of products and cameras, each with its images and options.",
            show_default=False,
            callback=on_this_machine,
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            metavar="DIR",
            help="Folder for the models, here or in a store, such as s3://bucket/models.",
            show_default=False,
        ),
    ],
    jobs: Annotated[
        int, typer.Option(metavar="N", min=1, help="Models to fit in parallel; they share the processors.")
    ] = 1,
    engine: TaskEngine = "local",
    workers: Workers = None,
    debug: Debug = False,
) -> None:
    """Fit the models of a catalogue: one for each product, or for each of its cameras.

    A model that fails does not stop the others; models whose images and options are the same are not fitted again.
    """
    with heavy_imports("fit-all"):
        from ganomaly.commands.console import Console
        from ganomaly.commands.engine import task_runner
        from ganomaly.commands.fit_all import fit_all as run

        folder = location(out)
        runner = task_runner(engine, folder, jobs=jobs, workers=workers)
    exit_if_unreadable(run(Console(), catalog, folder, run=runner))
