"""The machine a figure was measured on, in one line."""

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
        known = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
        flags = ", ".join(flag for flag in known if flag in fields.get("flags", "").split())
    return (
        f"{processor} ({flags}), {torch.get_num_threads()} threads, Python {platform.python_version()}, "
        f"PyTorch {torch.__version__}{_version_of('onnxruntime')}{_version_of('openvino')}"
    )


def _version_of(package: str) -> str:
    try:
        return f", {package} {version(package)}"
    except PackageNotFoundError:
        return ""
