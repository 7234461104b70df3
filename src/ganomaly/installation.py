"""What is installed and what the machine offers, for `ganomaly doctor`; without importing what it looks for."""

import os
import platform
import re
import shutil
import subprocess  # nosec B404  # one program, whose arguments are fixed
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from ganomaly.data.resources import available_memory, total_memory, usable_processors
from ganomaly.version import __version__

DISTRIBUTIONS = ("ganomaly", "ganomaly-inference")
"""This package is in both; the second predicts with exported models only."""

FOR_DEVELOPMENT = ("dev", "docs", "faults")
"""Extras that are for who works on this package."""

_PACKAGES = {
    "pytorch": "torch",
    "onnx_runtime": "onnxruntime",
    "openvino": "openvino",
    "numpy": "numpy",
    "pillow": "pillow",
    "imagecodecs": "imagecodecs",
}
_INSTRUCTIONS = {  # names of Linux
    "avx2": "avx2",
    "avx512": "avx512f",
    "avx512_bf16": "avx512_bf16",
    "amx_bf16": "amx_bf16",
}
_GPU_SECONDS = 1.0  # a driver that does not answer in this time counts as none
_PROC = Path("/proc")


def describe_installation() -> dict[str, Any]:
    """Versions, processor, memory, GPU and extras; what the system does not say is None.

    Returns
    -------
    dict
        Of JSON: `versions`, `processor`, `memory`, `gpu`, and for each of `extras` whether it is `complete`, what is
        `missing`, and the command that would `install` it.
    """
    return {
        "versions": _versions(),
        "processor": _processor(),
        "memory": {
            "available_gb": round(available_memory() / 1e9, 1),
            "total_gb": None if (total := total_memory()) is None else round(total / 1e9, 1),
        },
        "gpu": _gpu(),
        "extras": _extras(),
    }


def _versions() -> dict[str, str | None]:
    installed = {name: _version(package) for name, package in _PACKAGES.items()}
    return {"ganomaly": __version__, "python": platform.python_version(), **installed}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


# --- machine ---------------------------------------------------------------------------------------------


def processor_name() -> str:
    """As the system says it."""
    return _cpu_information().get("model name") or platform.processor() or platform.machine()


def _processor() -> dict[str, Any]:
    information = _cpu_information()
    flags = information.get("flags", information.get("Features"))  # the second is that of ARM
    threads = os.environ.get("OMP_NUM_THREADS", "")
    return {
        "name": processor_name(),
        "cores_usable": usable_processors(),
        "threads": int(threads) if threads.isdigit() else usable_processors(),
        **{name: None if flags is None else flag in flags.split() for name, flag in _INSTRUCTIONS.items()},
    }


def _cpu_information() -> dict[str, str]:
    """What Linux says of the first processor."""
    try:
        first = (_PROC / "cpuinfo").read_text().split("\n\n")[0]
    except OSError:
        return {}
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _gpu() -> dict[str, Any]:
    """Names of NVIDIA's devices, and whether PyTorch was built for them; PyTorch itself is not imported."""
    names = _gpu_names()
    built_for = _cuda_of_torch()
    if not names:
        note = "none found"
    elif built_for is None:
        note = "this PyTorch is for processors only; its web site names the one for the GPU"
    else:
        note = f"PyTorch was built for CUDA {built_for}"
    return {"names": names, "cuda_of_pytorch": built_for, "note": note}


def _gpu_names() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        done = subprocess.run(  # nosec B603  # the same
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_GPU_SECONDS,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.split("\n")[:-1]


def _cuda_of_torch() -> str | None:
    """The version of CUDA that PyTorch was built for, read from its file."""
    specification = find_spec("torch")
    if specification is None or specification.origin is None:
        return None
    try:
        text = Path(specification.origin).with_name("version.py").read_text()
    except OSError:
        return None
    found = re.search(r"^cuda\b.*?=\s*'([\d.]+)'", text, re.MULTILINE)
    return None if found is None else found[1]


# --- extras ----------------------------------------------------------------------------------------------


def _extras() -> dict[str, dict[str, Any]]:
    """For each extra of the installed distribution whether it is complete; empty where it is not installed."""
    installed = next(_installed_distributions(), None)
    if installed is None:
        return {}
    requirements = [parsed for text in installed.requires or [] if (parsed := _requirement(text)) is not None]
    names = sorted(set(installed.metadata.get_all("Provides-Extra") or []) - set(FOR_DEVELOPMENT))
    return {name: _extra(installed.metadata["Name"], name, requirements) for name in names}


def _installed_distributions() -> Iterator[Distribution]:
    for name in DISTRIBUTIONS:
        try:
            yield distribution(name)
        except PackageNotFoundError:
            continue


def _requirement(text: str) -> Requirement | None:
    try:
        return Requirement(text)
    except InvalidRequirement:
        return None


def _extra(package: str, name: str, requirements: list[Requirement]) -> dict[str, Any]:
    missing = [
        problem
        for requirement in requirements
        if requirement.marker is not None
        and requirement.marker.evaluate({"extra": name})
        and not requirement.marker.evaluate({"extra": ""})
        and (problem := _problem(requirement)) is not None
    ]
    command = f"{_python()} -m pip install '{package}[{name}]'" if missing else None
    return {"complete": not missing, "missing": missing, "install": command}


def _problem(requirement: Requirement) -> str | None:
    """What is wrong with a package: it is missing, or of a version that is not allowed; None if nothing is."""
    found = _version(requirement.name)
    if found is None:
        return requirement.name
    if not requirement.specifier.contains(found, prereleases=True):
        return f"{requirement.name}{requirement.specifier} (found {found})"
    return None


def _python() -> str:
    """The interpreter as a shell takes it: by its path, since `pip` may be that of another one."""
    executable = sys.executable or "python"
    return executable if re.fullmatch(r"[\w./\\:-]+", executable) else f'"{executable}"'


def in_words(description: Mapping[str, Any]) -> dict[str, Any]:
    """The same for people: texts by row, for a table."""
    processor, memory, gpu = description["processor"], description["memory"], description["gpu"]
    features = [name.replace("_", "-") for name in _INSTRUCTIONS if processor[name]]
    return {
        "versions": description["versions"],
        "processor": {
            "": processor["name"],
            "cores": f"{processor['cores_usable']} usable, {processor['threads']} threads",
            "instructions": ", ".join(features) or "none of " + ", ".join(_INSTRUCTIONS),
        },
        "memory": f"{memory['available_gb']} GB available of {memory['total_gb'] or '?'} GB",
        "GPU": f"{', '.join(gpu['names'])}: {gpu['note']}" if gpu["names"] else gpu["note"],
        "extras": {
            name: "complete"
            if extra["complete"]
            else f"needs {', '.join(extra['missing'])}; {extra['install']}"
            for name, extra in description["extras"].items()
        },
    }
