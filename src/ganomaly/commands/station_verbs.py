"""The verbs of a station: `ganomaly serve`, its keys, and `ganomaly store`."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ganomaly.commands.arguments import Debug, on_this_machine, parse_rate
from ganomaly.commands.plain_help import Command, Commands, PlainGroup
from ganomaly.commands.process import heavy_imports

RUN = "run"
EXTRA = "serve"


class ServeGroup(PlainGroup):
    """`ganomaly serve MODEL` runs a station, `ganomaly serve keys …` manages its keys."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take what is no name of a command for the model to serve."""
        return super().parse_args(ctx, args if args[:1] == ["keys"] else [RUN, *args])


class RunCommand(Command):
    """The command that is not named: `ganomaly serve MODEL`."""

    def get_usage(self, ctx: Any) -> str:
        """Its usage as it is typed."""
        return super().get_usage(ctx).replace(f" serve {RUN} ", " serve ")


serve_app = Commands(cls=ServeGroup, help="Run an inspection station: HTTP API and review pages.")
keys_app = Commands(
    cls=PlainGroup,
    help="Keys of a station: who may send images, review, and change models.",
    no_args_is_help=True,
)
store_app = Commands(
    cls=PlainGroup, help="The store of a station: predictions, reviews and images.", no_args_is_help=True
)
serve_app.add_typer(keys_app, name="keys")

StoreUrl = Annotated[
    str,
    typer.Option(
        metavar="URL",
        envvar="GANOMALY_STORE",
        help="Database: a SQLite file, or postgresql://user@host/name.",
    ),
]
Files = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for images, maps and models \\[default: beside the SQLite file].",
        callback=on_this_machine,
    ),
]
Keep = Literal["all", "anomalous", "sample", "none"]
STORE = "station.db"


ModelOrFolder = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL_OR_DIR",
        help="Model, exported graph, or a folder of them.",
        show_default=False,
        callback=on_this_machine,
    ),
]
Host = Annotated[
    str, typer.Option(metavar="H", help="Address to listen on; others than this machine's need keys.")
]
Port = Annotated[int, typer.Option(metavar="P", min=0, max=65535, help="Port to listen on.")]
Kept = Annotated[
    Keep,
    typer.Option(
        metavar="WHICH",
        help="Whose images are stored: all, anomalous, sample (what recalibration needs) or none.",
    ),
]
KeepDays = Annotated[
    float | None,
    typer.Option(metavar="N", min=0, help="Days for which images without a review are stored."),
]
KeepGigabytes = Annotated[
    float | None,
    typer.Option(metavar="N", min=0, help="Space for images; the oldest without a review go first."),
]
ForgetDays = Annotated[
    float | None,
    typer.Option(metavar="N", min=0, help="Days after which predictions without a review are removed whole."),
]
SampleShare = Annotated[
    float,
    typer.Option(
        metavar="RATE",
        parser=parse_rate,
        help="Share of images drawn for recalibration, whatever their score.",
    ),
]
QueueSize = Annotated[
    int, typer.Option(metavar="N", min=1, help="Images that wait for a model; more are refused.")
]
MaxMegabytes = Annotated[float, typer.Option(metavar="N", min=0.001, help="Largest upload.")]
MaxMegapixels = Annotated[
    float,
    typer.Option(
        metavar="N", min=0.001, help="Largest image; large ones take long, and others wait for them."
    ),
]
DriftRate = Annotated[
    float,
    typer.Option(
        metavar="RATE", parser=parse_rate, help="Share of undisturbed stations that may ever report drift."
    ),
]
WatchedFolder = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder to predict new images from; they are moved to done/ or failed/ in it.",
        callback=on_this_machine,
    ),
]
Camera = Annotated[
    str | None,
    typer.Option(metavar="URL", help="Camera to predict from: rtsp://…, a device, or a video file."),
]
CameraInterval = Annotated[
    float, typer.Option(metavar="S", min=0.01, help="Seconds between two images of the camera.")
]
Feed = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Model for --watch and --camera, where there are several."),
]
Webhooks = Annotated[
    list[str] | None,
    typer.Option(
        metavar="URL",
        help="Told of anomalies and drift, signed with GANOMALY_WEBHOOK_SECRET; repeatable.",
    ),
]
Mqtt = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT", help="MQTT broker for verdicts, or its URL, mqtts:// with user and password."
    ),
]
Opcua = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Where an OPC UA server with the last verdicts listens."),
]
Threads = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Threads that compute \\[default: all processors].")
]


@serve_app.command(RUN, cls=RunCommand)
def serve(
    model: ModelOrFolder,
    store: StoreUrl = STORE,
    files: Files = None,
    host: Host = "127.0.0.1",
    port: Port = 8000,
    keep: Kept = "all",
    keep_days: KeepDays = None,
    keep_gigabytes: KeepGigabytes = None,
    forget_days: ForgetDays = None,
    sample_share: SampleShare = 0.02,
    queue: QueueSize = 64,
    max_megabytes: MaxMegabytes = 64,
    max_megapixels: MaxMegapixels = 25,
    drift_rate: DriftRate = 0.01,
    watch: WatchedFolder = None,
    camera: Camera = None,
    camera_interval: CameraInterval = 1.0,
    feed: Feed = None,
    webhook: Webhooks = None,
    mqtt: Mqtt = None,
    opcua: Opcua = None,
    threads: Threads = None,
    debug: Debug = False,
) -> None:
    """Run a station: images in by HTTP, folder or camera, verdicts out and stored, pages to review them.

    `ganomaly serve keys` makes the keys that others than this machine need.
    """
    with heavy_imports(EXTRA):
        from ganomaly.commands.console import Console
        from ganomaly.commands.serve import serve as run
        from ganomaly.service.settings import Connections, Settings
        from ganomaly.store.retention import Retention
    import os

    settings = Settings(
        models=model,
        store=store,
        files=files,
        host=host,
        port=port,
        keep=keep,
        retention=Retention(
            image_days=keep_days,
            image_bytes=None if keep_gigabytes is None else int(keep_gigabytes * 1e9),
            prediction_days=forget_days,
        ),
        sample_share=sample_share,
        queue=queue,
        max_bytes=int(max_megabytes * 1e6),
        max_pixels=int(max_megapixels * 1e6),
        drift_alpha=drift_rate,
        webhooks=tuple(webhook or ()),
        webhook_secret=os.environ.get("GANOMALY_WEBHOOK_SECRET", ""),
        threads=threads,
        connections=Connections(watch, camera, camera_interval, feed, mqtt, opcua),
    )
    run(Console(), settings)


Name = Annotated[str, typer.Argument(metavar="NAME", help="What to call the key.", show_default=False)]


@keys_app.command("add")
def add_key(
    name: Name,
    role: Annotated[
        Literal["station", "reviewer", "admin"],
        typer.Option(help="station sends images, reviewer looks and reviews too, admin changes models too."),
    ] = "station",
    store: StoreUrl = STORE,
    files: Files = None,
    debug: Debug = False,
) -> None:
    """Make a key; it is shown once."""
    with heavy_imports(EXTRA):
        from ganomaly.commands.console import Console
        from ganomaly.commands.serve import add_key as run

    run(Console(), store, files, name, role)


@keys_app.command("list")
def list_keys(store: StoreUrl = STORE, files: Files = None, debug: Debug = False) -> None:
    """List names and roles."""
    with heavy_imports(EXTRA):
        from ganomaly.commands.serve import show_keys as run

    run(store, files)


@keys_app.command("revoke")
def revoke_key(name: Name, store: StoreUrl = STORE, files: Files = None, debug: Debug = False) -> None:
    """End a key."""
    with heavy_imports(EXTRA):
        from ganomaly.commands.console import Console
        from ganomaly.commands.serve import end_key as run

    run(Console(), store, files, name)


@store_app.command("migrate")
def migrate(
    store: StoreUrl = STORE,
    files: Files = None,
    revision: Annotated[
        str, typer.Option(metavar="REVISION", help="Form of the tables; older ones lose data.")
    ] = "head",
    debug: Debug = False,
) -> None:
    """Bring the tables to their newest form; `serve` does that by itself."""
    with heavy_imports(EXTRA):
        from ganomaly.commands.console import Console
        from ganomaly.commands.store import migrate as run

    run(Console(), store, files, revision)


@store_app.command("stats")
def stats(store: StoreUrl = STORE, files: Files = None, debug: Debug = False) -> None:
    """Count predictions, reviews and bytes."""
    with heavy_imports(EXTRA):
        from ganomaly.commands.console import Console
        from ganomaly.commands.store import stats as run

    run(Console(), store, files)


@store_app.command("export")
def export(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Name of the model in the store.", show_default=False)
    ],
    out: Annotated[
        Path,
        typer.Option(
            metavar="DIR", help="Folder for the dataset.", show_default=False, callback=on_this_machine
        ),
    ],
    store: StoreUrl = STORE,
    files: Files = None,
    debug: Debug = False,
) -> None:
    """Write reviewed images as a dataset in MVTec AD layout, for `fit`, `update` and `evaluate`."""
    with heavy_imports(EXTRA):
        from ganomaly.commands.console import Console
        from ganomaly.commands.store import export as run

    run(Console(), store, files, model, out)
