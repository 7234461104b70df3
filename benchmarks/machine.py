"""A line about the machine that a benchmark ran on, and one about its load."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch


def describe_machine() -> str:
    """Processor, threads and versions."""
    cpuinfo = Path("/proc/cpuinfo")
    processor = platform.processor() or platform.machine()
    flags = ""
    if cpuinfo.exists():
        lines = (line.partition(":") for line in cpuinfo.read_text().splitlines())
        fields = {name.strip(): value.strip() for name, _, value in lines}
        processor = fields.get("model name", processor)
        instructions = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
        flags = ", ".join(flag for flag in instructions if flag in fields.get("flags", "").split())
    return (
        f"{processor} ({flags}), {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}{_version_of('onnxruntime')}{_version_of('openvino')}"
    )


def describe_load() -> str:
    """Processes that want a processor, on average over the last minute, this benchmark included."""
    return f"load {os.getloadavg()[0]:.1f} on {len(os.sched_getaffinity(0))} processors"


def _version_of(package: str) -> str:
    try:
        return f", {package} {version(package)}"
    except PackageNotFoundError:
        return ""
