"""Trains methods as one of several processes: a script that tests start, importable by them, without pytest."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor

from ganomaly.config import Precision, Preprocessing, TrainingOptions
from ganomaly.data import ImageLoader
from ganomaly.devices import choose_precision
from ganomaly.methods import find_preset
from ganomaly.training import precision as measuring
from ganomaly.training.loop import TrainingResult, train
from ganomaly.training.observers import TrainingProgress
from ganomaly.training.processes import (
    LOST,
    end_with_parent,
    is_watched,
    place_of_this_process,
    run_processes,
)
from ganomaly.training.ranks import RankLostError, Ranks, join
from images import load_images, textures

DCGAN = {"ngf": 4, "ndf": 4, "nz": 8}
NETWORKS: Mapping[str, Mapping[str, Any]] = {
    "paper": DCGAN,
    "egbad": DCGAN,
    "vae": {"ngf": 4, "nz": 8},
    "skip-ganomaly": DCGAN,
    "anogan": DCGAN | {"search_steps": 2},
    "f-anogan": DCGAN,
    "small": DCGAN,
    "small-features": DCGAN | {"embedding": 8},
    "patches": {"ngf": 4, "ndf": 4},
    "features": {"ngf": 8, "ndf": 4},
}
BATCH = 7  # which two processes do not divide evenly
STEPS = 6  # of 2 an epoch
NUMBER = 2  # processes
PATCH = 64  # px
CPU = torch.device("cpu")


def images_of(preset: str, *, streamed: bool) -> ImageLoader:
    """16 images, for presets with patches of two sizes, larger and smaller than a patch; held or streamed."""
    images: Any = textures(16)
    options: dict[str, Any] = {"memory_limit": 0} if streamed else {}
    if find_preset(preset)[1].patches is not None:
        options |= {"image_size": PATCH, "scale": 1.0}
        images = [*textures(10, size=PATCH + 20), *textures(6, size=PATCH - 8)]
    return load_images(images, **options)


def train_preset(
    preset: str,
    ranks: Ranks,
    *,
    streamed: bool = False,
    checkpoint: Path | None = None,
    on_progress: Callable[[TrainingProgress], None] = lambda _: None,
    steps: int = STEPS,
    precision: Precision = "fp32",
) -> TrainingResult:
    """Train small networks of a preset for a few steps."""
    method_type, definition = find_preset(preset)
    options = definition.options.checked(**{**definition.options.model_dump(), **NETWORKS[preset]})
    has_patches = definition.patches is not None
    loader = images_of(preset, streamed=streamed)
    return train(
        method_type,
        options,
        Preprocessing(
            image_size=PATCH if has_patches else 32, channels=1, scale=1.0 if has_patches else None
        ),
        loader,
        loader.usable,
        TrainingOptions(steps=steps, batch_size=BATCH, seed=1, precision=precision, checkpoint_seconds=0),
        ranks=ranks,
        checkpoint=checkpoint,
        on_progress=on_progress,
    )


def weights_of(result: TrainingResult) -> dict[str, Tensor]:
    """All weights, statistics and random states."""
    return {name: tensor.contiguous() for name, tensor in result.method.state_dict().items()}


def run_presets(
    folder: Path,
    presets: str,
    *,
    steps: int = STEPS,
    killed: int = -1,
    at_step: int = -1,
    after: float = 1e9,
) -> int:
    """Train presets, separated by commas, in several processes; see `main` for who is killed, and when."""
    script = [sys.executable, __file__, folder, presets, steps, killed, at_step, after]
    environment = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return run_processes(list(map(str, script)), devices=NUMBER, environment=environment)


def main(folder: Path, presets: str, steps: int, killed: int, at_step: int, after: float) -> None:
    """Train each preset together with the other processes, and save what this one has.

    After the name of a preset, `streamed` streams the images, `auto` resolves the precision, and with `measured` the
    first process measures another one than the rest would take.
    The process of rank `killed` kills itself after a step, or after so many seconds of training.
    """
    place = place_of_this_process()
    if is_watched():
        end_with_parent()
    ranks = join(place, torch.device("cpu"))
    started = time.perf_counter()
    if ranks.rank == killed:
        timer = threading.Timer(min(after, 1e6), kill_this_process)
        timer.daemon = True
        timer.start()

    def kill(progress: TrainingProgress) -> None:
        if (ranks.rank, progress.step) == (killed, at_step):
            kill_this_process()

    for preset in presets.split(","):
        name, _, how = preset.partition(" ")
        with measured(other_precision()) if how == "measured" and ranks.is_first else nullcontext():
            result = train_preset(
                name,
                ranks,
                streamed=how == "streamed",
                checkpoint=folder / f"{preset}.checkpoint",
                on_progress=kill,
                steps=steps,
                precision="auto" if how in {"auto", "measured"} else "fp32",
            )
        save_file(weights_of(result), folder / f"{preset} {ranks.rank}.safetensors")
    if ranks.is_first:
        (folder / "seconds").write_text(str(time.perf_counter() - started))
    ranks.leave()


def other_precision() -> Precision:
    """Not the one that the instructions of this processor suggest."""
    return "fp32" if choose_precision("auto", CPU) == "bf16" else "bf16"


def measured(precision: Precision) -> AbstractContextManager[object]:
    """Find this precision faster, also for short runs."""
    return mock.patch.multiple(measuring, WORTH_MEASURING=1, faster_precision=lambda *_, **__: precision)


def kill_this_process() -> None:
    """As the system does where memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]), float(sys.argv[6]))
    except RankLostError:
        sys.exit(LOST)
