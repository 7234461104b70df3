"""Which precision trains faster on this processor: measured once, and remembered.

That a processor has instructions for bf16 does not say that it is quick with them: some take many times as long for
certain convolutions. So a few steps are trained in each precision before the first long run of a kind, and the result
is kept beside other caches of the user, so that a seeded run repeats.
"""

import hashlib
import json
import logging
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from ganomaly.config import MethodOptions, Precision, Preprocessing, TrainingOptions
from ganomaly.devices import choose_device, choose_precision, full_precision, make_fabric
from ganomaly.errors import GANomalyError
from ganomaly.files import written_whole
from ganomaly.installation import processor_name
from ganomaly.methods import Method, Step
from ganomaly.tensors import in_channels_last
from ganomaly.training.checkpoint import recorded_precision
from ganomaly.training.ranks import Ranks, SharedPrecision
from ganomaly.version import __version__

log = logging.getLogger(__name__)

WORTH_MEASURING = 300  # steps
"""Shorter runs take what the processor's instructions suggest: measuring would take as long as it saves."""

STEPS = 3  # that are measured in each precision, after one that is not
ENOUGH_SECONDS = 5.0  # after which no further step is measured
CLEARLY = 1.15
"""So many times as long bf16 must take for fp32 to be chosen, so that chance does not decide between equals."""


def precision_of_run(
    method_type: type[Method],
    options: MethodOptions,
    preprocessing: Preprocessing,
    training: TrainingOptions,
    *,
    batch_size: int,
    n_steps: int,
    checkpoint: Path | None,
    say: Callable[[str], None],
) -> Precision:
    """Resolve `auto`: the precision of the run that goes on, else the faster one if the run is long.

    Parameters
    ----------
    method_type, options, preprocessing, training
        What is trained, and how.
    batch_size, n_steps : int
        Images of a step, and steps in all.
    checkpoint : Path, optional
        Of the run that goes on.
    say : callable
        Called with a sentence when it was measured.
    """
    device = choose_device(training.device)
    by_instructions = choose_precision(training.precision, device)
    if training.precision != "auto" or device.type != "cpu":
        return by_instructions
    recorded = None if checkpoint is None else recorded_precision(checkpoint)
    if recorded is not None:
        return recorded
    if n_steps < WORTH_MEASURING:
        return by_instructions
    return faster_precision(method_type, options, preprocessing, batch_size=batch_size, say=say)


def faster_precision(
    method_type: type[Method],
    options: MethodOptions,
    preprocessing: Preprocessing,
    *,
    batch_size: int,
    say: Callable[[str], None] = lambda _: None,
) -> Precision:
    """The precision in which a method trains faster on this processor.

    Parameters
    ----------
    method_type, options, preprocessing
        What would be trained.
    batch_size : int
        Images of a step.
    say : callable
        Called with a sentence when it was measured.

    Returns
    -------
    str
        'fp32' where the processor has no instructions for bf16; else what was measured, now or before. Where the
        result cannot be remembered, 'bf16', so that a run repeats.
    """
    device = torch.device("cpu")
    if choose_precision("auto", device) == "fp32":
        return "fp32"
    key = _key(method_type, options, preprocessing, batch_size)
    file = _cache_folder() / f"precision-{key}.json"
    known = _remembered(file)
    if known is not None:
        return known
    milliseconds: dict[Precision, float] = {
        precision: 1000 * _seconds_per_step(method_type, options, preprocessing, batch_size, precision)
        for precision in ("fp32", "bf16")
    }
    chosen: Precision = "fp32" if milliseconds["bf16"] > CLEARLY * milliseconds["fp32"] else "bf16"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(file) as path:
            path.write_text(json.dumps({"precision": chosen, "milliseconds_per_step": milliseconds}))
    except (OSError, GANomalyError) as error:
        log.info("%s cannot be written (%s): training in bf16", file, error)
        return "bf16"
    say(
        f"Training in {chosen}: a step takes {milliseconds['bf16']:.0f} ms in bf16 and {milliseconds['fp32']:.0f} ms "
        "in fp32 on this processor"
    )
    return chosen


def _seconds_per_step(
    method_type: type[Method],
    options: MethodOptions,
    preprocessing: Preprocessing,
    batch_size: int,
    precision: Precision,
) -> float:
    """The quickest of a few steps on noise: others are slowed down by other programs."""
    device = torch.device("cpu")
    method = in_channels_last(method_type(options, preprocessing, Generator().manual_seed(0)).to(device))
    side = preprocessing.image_size
    noise = torch.rand((batch_size, preprocessing.channels, side, side), generator=Generator().manual_seed(1))
    x = (2 * noise - 1).contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), full_precision(device):
        method.fit_scales(x)
    optimizers = method.optimizers()
    precision_of_step = SharedPrecision(make_fabric(device, precision), Ranks())
    method.train()
    quickest, began = float("inf"), time.perf_counter()
    for number in range(STEPS + 1):
        started = time.perf_counter()
        method.training_step(x, optimizers, precision_of_step, Step(number, STEPS + 1))
        ended = time.perf_counter()
        if number > 0 or ended - began > ENOUGH_SECONDS:
            quickest = min(quickest, ended - started)
        if ended - began > ENOUGH_SECONDS:
            break
    return quickest


def _key(
    method_type: type[Method], options: MethodOptions, preprocessing: Preprocessing, batch_size: int
) -> str:
    """Of everything that the time of a step depends on."""
    parts = [
        __version__,
        torch.__version__,
        platform.machine(),
        processor_name(),
        torch.get_num_threads(),
        method_type.name,
        options.model_dump_json(),
        preprocessing.image_size,
        preprocessing.channels,
        batch_size,
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _remembered(file: Path) -> Precision | None:
    content: Any = None
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text())
    precision = content.get("precision") if isinstance(content, dict) else None
    return precision if precision in ("fp32", "bf16") else None


def _cache_folder() -> Path:
    """`GANOMALY_CACHE`, or where programs keep what they can make again."""
    given = os.environ.get("GANOMALY_CACHE")
    if given:
        return Path(given)
    home = os.environ.get("LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "ganomaly"
