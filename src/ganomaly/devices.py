"""Which processor computes, and how precisely."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ganomaly.config import Device, Precision
from ganomaly.errors import UsageError
from ganomaly.forks import RuntimeThreads

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def choose_device(device: Device) -> torch.device:
    """Resolve `auto` to a GPU where there is one, to compute on it now.

    Raises
    ------
    UsageError
        If a GPU is asked for and none can be used, or this process was forked from one in which PyTorch computes.
    """
    if device == "cpu" or (device == "auto" and not torch.cuda.is_available()):
        chosen = torch.device("cpu")
    elif torch.cuda.is_available():
        chosen = torch.device("cuda")
    else:
        raise UsageError("device cuda was asked for, but this PyTorch finds no CUDA GPU; use --device cpu")
    begin_computing(chosen)
    return chosen


def begin_computing(device: torch.device) -> None:
    """Note that PyTorch computes in this process; refuse in a process that was forked from such a one.

    A fork copies the memory of a process but not its threads, and PyTorch would wait for them forever. With a
    single thread and no GPU there is nothing to wait for, and nothing is noted.

    Raises
    ------
    UsageError
        If this process was forked from one in which PyTorch computes with several threads or on a GPU.
    """
    _THREADS.check()
    if device.type != "cpu" or torch.get_num_threads() > 1:
        _THREADS.start()


_THREADS = RuntimeThreads("PyTorch")


def choose_precision(precision: Precision, device: torch.device) -> Precision:
    """Resolve `auto` to bf16 where the device computes in it, else fp32."""
    if precision != "auto":
        return precision
    return "bf16" if _computes_in_bf16(device) else "fp32"


def precision_warning(precision: Precision, device: torch.device) -> str | None:
    """Say so where the device has no instructions for the precision that was asked for; None where all is well."""
    if precision != "bf16" or _computes_in_bf16(device):
        return None
    return (
        "this processor has no instructions for bf16, so training imitates it and is many times slower; "
        "leave --precision at auto, or take fp32"
    )


@contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """Compute fp32 as such on a GPU too, whose convolutions keep 10 bits of each factor unless told not to.

    The switch is the process's: who comes in first turns it, who leaves last puts it back.
    """
    if device.type != "cuda":
        yield
        return
    cudnn = torch.backends.cudnn
    with _FULL_PRECISION.lock:
        if _FULL_PRECISION.inside == 0:
            _FULL_PRECISION.before = cudnn.allow_tf32
            cudnn.allow_tf32 = False
        _FULL_PRECISION.inside += 1
    try:
        yield
    finally:
        with _FULL_PRECISION.lock:
            _FULL_PRECISION.inside -= 1
            if _FULL_PRECISION.inside == 0:
                cudnn.allow_tf32 = _FULL_PRECISION.before


@dataclass
class _Switch:
    lock: threading.Lock = field(default_factory=threading.Lock)
    inside: int = 0
    before: bool = True


_FULL_PRECISION = _Switch()


def make_fabric(device: torch.device, precision: Precision) -> "Fabric":
    """Make the Fabric that training runs on; `precision` is already resolved."""
    # importing it takes as long as importing PyTorch, and only training needs it
    from lightning_fabric import Fabric

    # Fabric announces the precision in the log; the command line says it in its own words
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    return Fabric(
        accelerator=device.type, devices=1, precision="bf16-mixed" if precision == "bf16" else "32-true"
    )


def _computes_in_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # emulated bf16 is slower than fp32, so only instructions count
    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, lambda: False)() for name in instructions)
