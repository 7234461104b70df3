"""The commands that have state, small here: what they are called with, and the options of the runner for them."""

from pathlib import Path

from faults.harness import Command

CHECKPOINT_SECONDS = 0.0  # after every step
SMALL_NETWORK = {
    "paper": ("ngf=8", "ndf=8", "nz=16"),
    "features": ("ngf=8", "ndf=4"),
    "patches": ("ngf=4", "ndf=4"),
    "small": ("ngf=8", "ndf=8"),
    "anogan": ("ngf=8", "ndf=8", "nz=16", "search_steps=5"),
    "egbad": ("ngf=8", "ndf=8", "nz=16"),
    "vae": ("ngf=8", "nz=16"),
    "skip-ganomaly": ("ngf=8", "ndf=8"),
    "f-anogan": ("ngf=8", "ndf=8", "nz=16"),
}
EPOCHS = {"features": 1, "patches": 1}


def fit_command(preset: str, parts: Path) -> Command:
    options = [part for option in SMALL_NETWORK[preset] for part in ("--option", option)]
    return Command(
        f"fit {preset}",
        lambda out: [
            "fit", parts, "--model", out / "m.safetensors", "--preset", preset,
            "--epochs", EPOCHS.get(preset, 6), "--false-alarm-rate", 0.1, *options,
        ],
        {"checkpoint_seconds": CHECKPOINT_SECONDS},
    )  # fmt: skip


def commands(parts: Path, model: Path, graph: Path) -> dict[str, Command]:
    all_commands = [
        *(fit_command(preset, parts) for preset in SMALL_NETWORK),
        Command(
            "score",
            lambda out: [
                "score", model, parts / "test", "--out", out / "t.csv", "--maps", out / "maps",
                "--report", out / "r.html",
            ],
        ),
        Command(
            "score parquet and npy",
            lambda out: [
                "score", model, parts / "test", "--out", out / "t.parquet", "--maps", out / "maps",
                "--map-format", "npy",
            ],
        ),
        Command(
            "evaluate",
            lambda out: [
                "evaluate", model, parts, "--json", out / "e.json", "--report", out / "r.html",
                "--figures", out / "figures",
            ],
        ),
        Command(
            "benchmark",
            lambda out: [
                "benchmark", "baggage", "--out", out / "b", "--methods", "ganomaly[ngf=4;ndf=4],vae[ngf=4]",
                "--classes", "gun", "--epochs", 2, "--image-size", 32, "--json", out / "b.json",
            ],
            {"small": True, "checkpoint_seconds": CHECKPOINT_SECONDS},
        ),
        Command(
            "demo",
            lambda out: ["demo", "--out", out / "demo"],
            {"small": True, "checkpoint_seconds": CHECKPOINT_SECONDS},
            variable=("report.html",),
        ),
        Command("export onnx", lambda out: ["export", model, "--out", out / "g.onnx"], {"graph": str(graph)}),
        Command(
            "export openvino",
            lambda out: ["export", model, "--format", "openvino", "--out", out / "g.xml"],
            {"graph": str(graph)},
        ),
    ]  # fmt: skip
    return {command.name: command for command in all_commands}


NAMES = list(commands(Path(), Path(), Path()))
