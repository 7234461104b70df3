"""A trained model in one file that is data and nothing else.

The file is safetensors: weights and calibration scores as tensors, everything else as JSON in the metadata.
A checksum over all of it tells a file that was changed by hand.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Generator, Tensor

from ganomaly.calibration.conformal import Calibration, MapCalibration
from ganomaly.config import Preprocessing
from ganomaly.errors import GANomalyError, ModelFileError, UsageError
from ganomaly.methods import find_method
from ganomaly.output_checks import MODEL, check_outputs
from ganomaly.prediction.earlier_formats import upgraded
from ganomaly.prediction.model import Model
from ganomaly.tensor_files import write_safetensors
from ganomaly.tensors import in_channels_last

FORMAT = "ganomaly-model"
FORMAT_VERSION = 2
LARGEST_HEADER = 100_000_000  # bytes; the limit of the safetensors format


def check_model_path(path: str | Path) -> None:
    """Raise `UsageError` now if `save_model` would refuse `path` later."""
    check_outputs({"the model": (path, MODEL)})


def save_model(model: Model, path: str | Path) -> None:
    """Write a model to one `.safetensors` file, whole or not at all.

    Raises
    ------
    UsageError
        If the path has the ending of a graph, or its folder is missing.
    OutputError
        If it cannot be written.
    """
    check_model_path(path)
    tensors = {
        f"weights/{name}": tensor.cpu().contiguous() for name, tensor in model.method.state_dict().items()
    }
    tensors["calibration/scores"] = torch.from_numpy(model.calibration.scores)
    if model.map_calibration is not None:
        tensors["calibration/map_medians"] = torch.from_numpy(model.map_calibration.medians)
        tensors["calibration/map_maxima"] = torch.from_numpy(model.map_calibration.maxima)
    metadata = {
        "format": FORMAT,
        "format_version": str(FORMAT_VERSION),
        "model": json.dumps(
            {
                "method": model.method.name,
                "preset": model.preset,
                "options": model.method.options.model_dump(),
                "preprocessing": model.preprocessing.model_dump(),
                "false_alarm_rate": model.calibration.false_alarm_rate,
            }
        ),
        "provenance": json.dumps(dict(model.provenance)),
    }
    metadata["checksum"] = _checksum(metadata, tensors)
    write_safetensors(path, tensors, metadata)


def load_model(path: str | Path) -> Model:
    """Read a model file.

    Raises
    ------
    UsageError
        If there is no such file.
    ModelFileError
        If it is truncated, not a model of ganomaly, written by a newer version, or changed after it was saved.
    """
    path = Path(path)
    metadata, tensors = _read(path)
    try:
        described = json.loads(metadata["model"])
        method_type = find_method(described["method"])
        preprocessing = Preprocessing(**described["preprocessing"])
        options = described["options"]
        weights = {
            name.removeprefix("weights/"): tensor
            for name, tensor in tensors.items()
            if name.startswith("weights/")
        }
        if metadata["format_version"] == "1":
            options, weights = upgraded(described["method"], options, weights)
        method = method_type(method_type.options_type(**options), preprocessing, Generator())
        method.load_state_dict(weights)
        calibration = Calibration(tensors["calibration/scores"].numpy(), described["false_alarm_rate"])
        map_calibration = None
        if "calibration/map_maxima" in tensors:
            medians, maxima = (tensors[f"calibration/map_{name}"].numpy() for name in ("medians", "maxima"))
            map_calibration = MapCalibration(medians, maxima, described["false_alarm_rate"])
        provenance = json.loads(metadata["provenance"])
    except (KeyError, TypeError, ValueError, RuntimeError, ValidationError, GANomalyError) as error:
        raise ModelFileError(
            f"{path} is a ganomaly model, but its parts do not fit each other or this version; train it again"
        ) from error
    method = in_channels_last(method).eval()
    return Model(method, described["preset"], preprocessing, calibration, provenance, map_calibration)


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that is whole, ours, not too new, and unchanged."""
    if not path.is_file():
        raise UsageError(f"there is no model file {path}; `ganomaly fit DATA --model {path}` makes one")
    _check_whole(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise ModelFileError(f"{path} is a safetensors file, but not a model of ganomaly")
            _check_version(path, metadata.get("format_version", ""))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a model of ganomaly, or it is damaged ({error})") from error
    checksum = metadata.pop("checksum", "")
    if checksum != _checksum(metadata, tensors):
        raise ModelFileError(
            f"{path} was changed after it was saved (its checksum does not match); use the original file"
        )
    return metadata, tensors


def _check_version(path: Path, version: str) -> None:
    if version.isdecimal() and int(version) > FORMAT_VERSION:
        raise ModelFileError(
            f"{path} was written by a newer version of ganomaly (file format {version}, this one reads up to "
            f"{FORMAT_VERSION}); upgrade ganomaly"
        )


def _check_whole(path: Path) -> None:
    """Tell a truncated file from a foreign one, which safetensors' own errors do not."""
    size = path.stat().st_size
    foreign = ModelFileError(f"{path} is not a model of ganomaly; it was not written by `ganomaly fit`")
    truncated = ModelFileError(f"{path} is truncated ({size} bytes); copy or download it again")
    try:
        with path.open("rb") as file:
            start = file.read(9)
            if len(start) < 9:
                raise truncated if start == b"" else foreign
            (header_size,) = struct.unpack("<Q", start[:8])
            if header_size > LARGEST_HEADER or start[8:] != b"{":
                raise foreign
            header_bytes = start[8:] + file.read(header_size - 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(header_bytes) < header_size:
        raise truncated
    try:
        header = json.loads(header_bytes)
        end = max(
            (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise foreign from None
    if size < 8 + header_size + end:
        raise truncated


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name in sorted(tensors):
        array = tensors[name].cpu().numpy()
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
