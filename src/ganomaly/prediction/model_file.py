"""A trained model in one file that is data and nothing else.

The file is safetensors: weights and calibration scores as tensors, everything else as JSON in the metadata. A
checksum over all of it shows whether the file was changed or damaged. A file is checked part by part, and what is
built from it takes no more memory than the file's own tensors, whatever its header asks for.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from pydantic_core import from_json
from safetensors import SafetensorError, safe_open
from torch import Generator, Tensor

from ganomaly.calibration import ProductCalibration
from ganomaly.config import first_error
from ganomaly.devices import begin_computing
from ganomaly.errors import ModelFileError, UsageError
from ganomaly.methods import Method, find_method
from ganomaly.methods.products import ProductMethods
from ganomaly.output_checks import MODEL, check_outputs
from ganomaly.prediction.earlier_formats import upgraded
from ganomaly.prediction.header import (
    MAX_JSON,
    ModelHeader,
    calibration_of,
    damaged,
    read_format_version,
    read_header,
    read_provenance,
)
from ganomaly.prediction.model import Model
from ganomaly.prediction.product_file import PREFIX as PRODUCTS
from ganomaly.prediction.product_file import check_product_tensor, load_products, product_tensors
from ganomaly.remote import Location
from ganomaly.tensor_files import check_readable, write_safetensors
from ganomaly.tensors import in_channels_last

FORMAT = "ganomaly-model"
FORMAT_VERSION = 2
PRODUCTS_VERSION = 3
"""Of models of several products, which earlier versions of ganomaly cannot read."""

MAX_HEADER = 2**23
"""Bytes of the safetensors header; that of a model has some 100 for each tensor, and the metadata."""

DTYPES = {"F32": torch.float32, "F64": torch.float64, "I64": torch.int64, "BOOL": torch.bool}
"""Types of tensors in model files, by their names in safetensors."""

WEIGHTS = "weights/"
CALIBRATION_SCORES = "calibration/scores"
MAP_MEDIANS, MAP_MAXIMA = "calibration/map_medians", "calibration/map_maxima"


def check_model_path(path: str | Location) -> None:
    """Raise `UsageError` now if `save_model` would refuse `path` later."""
    check_outputs({"the model": (path, MODEL)})


def save_model(model: Model, path: str | Location) -> None:
    """Write a model to one `.safetensors` file, whole or not at all.

    Raises
    ------
    UsageError
        If the path has another suffix, its folder is missing, or it is a file that is not a model.
    OutputError
        If it cannot be written.
    """
    check_model_path(path)
    method, calibration = model.method, model.calibration
    first = method.first if isinstance(method, ProductMethods) else method
    tensors = {f"{WEIGHTS}{name}": tensor.cpu().contiguous() for name, tensor in first.state_dict().items()}
    products: dict[str, Any] = {}
    if isinstance(method, ProductMethods) and isinstance(calibration, ProductCalibration):
        tensors |= product_tensors(method, calibration)
        products = {"products": list(method.names)}
    tensors[CALIBRATION_SCORES] = torch.from_numpy(model.calibration.scores)
    if model.map_calibration is not None:
        tensors[MAP_MEDIANS] = torch.from_numpy(model.map_calibration.medians)
        tensors[MAP_MAXIMA] = torch.from_numpy(model.map_calibration.maxima)
    metadata = {
        "format": FORMAT,
        "format_version": str(PRODUCTS_VERSION if products else FORMAT_VERSION),
        "model": json.dumps(
            {
                "method": model.method.name,
                "preset": model.preset,
                "options": model.method.options.model_dump(),
                "preprocessing": model.preprocessing.model_dump(),
                "false_alarm_rate": model.calibration.false_alarm_rate,
                **products,
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
        If there is no such file, or this process was forked from one in which PyTorch computes.
    ModelFileError
        If it is truncated, not a model of ganomaly, written by a newer version, or changed after it was saved.
    """
    path = Path(path)
    begin_computing(torch.device("cpu"))
    metadata, tensors = _read(path)
    version = read_format_version(path, metadata, PRODUCTS_VERSION)
    header = read_header(path, metadata, ModelHeader, max_size=MAX_JSON)
    provenance = read_provenance(path, metadata)
    options: Mapping[str, Any] = header.options
    weights = {
        name.removeprefix(WEIGHTS): tensor for name, tensor in tensors.items() if name.startswith(WEIGHTS)
    }
    if version == 1:
        options, weights = upgraded(header.method, options, weights)
    method = _load_weights(path, _without_weights(path, header, options), weights)
    maps = (tensors[MAP_MEDIANS].numpy(), tensors[MAP_MAXIMA].numpy()) if MAP_MAXIMA in tensors else None
    calibration, map_calibration = calibration_of(
        path, tensors[CALIBRATION_SCORES].numpy(), maps, header.false_alarm_rate
    )
    if header.products is None:
        return Model(method, header.preset, header.preprocessing, calibration, provenance, map_calibration)
    products, product_calibration = load_products(
        path,
        header.products,
        method,
        tensors,
        lambda weights: _load_weights(path, _without_weights(path, header, options), weights),
        header.false_alarm_rate,
    )
    return Model(
        products, header.preset, header.preprocessing, product_calibration, provenance, map_calibration
    )


def _without_weights(path: Path, header: ModelHeader, options: Mapping[str, Any]) -> Method:
    """The method that the header describes, as names and shapes alone: it takes no memory."""
    try:
        method_type = find_method(header.method)
        checked = method_type.options_type.model_validate(dict(options), strict=True)
        with torch.device("meta"):
            return method_type(checked, header.preprocessing, Generator())
    except ValidationError as error:
        raise damaged(path, f"its options are not valid: {first_error(error)}") from error
    except UsageError as error:
        raise damaged(path, f"its header is not valid: {error}") from error


def _load_weights(path: Path, method: Method, weights: dict[str, Tensor]) -> Method:
    """Give a method without weights those of its file, which must be exactly those it needs."""
    expected = method.state_dict()
    for name in expected.keys() ^ weights.keys():
        which = "is missing" if name in expected else "is not one of them"
        raise damaged(path, f"its weights do not fit its options ({name[:100]} {which})")
    for name, weight in weights.items():
        if weight.dtype != expected[name].dtype:
            raise damaged(path, f"{name} is {_dtype_name(weight)} instead of {_dtype_name(expected[name])}")
    try:
        method.load_state_dict(weights, assign=True)
    except (RuntimeError, ValueError, TypeError) as error:
        different = [name for name in expected if weights[name].shape != expected[name].shape]
        raise damaged(
            path, f"its weights do not fit its options ({different[0]} has another shape)"
        ) from error
    return in_channels_last(method).eval()


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata and tensors of a file that is whole, ours, and unchanged."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder, not a model; the model comes first, then the images")
    if not path.is_file():
        written = path.with_suffix(".safetensors")
        raise UsageError(f"there is no model file {path}; `ganomaly fit DATA --model {written}` makes one")
    _check_whole(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            if metadata.get("format") != FORMAT:
                raise ModelFileError(f"{path} is a safetensors file, but not a model of ganomaly")
            read_format_version(path, metadata, PRODUCTS_VERSION)
            names = list(file.keys())
            for name in names:
                entry = file.get_slice(name)
                _check_tensor(path, name, entry.get_dtype(), entry.get_shape())
            _check_calibration_names(path, names)
            # copied, because the model must not change with its file
            tensors = {name: file.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError) as error:
        raise ModelFileError(f"{path} is not a model of ganomaly, or it is damaged ({error})") from error
    checksum = metadata.pop("checksum", "")
    if checksum != _checksum(metadata, tensors):
        raise ModelFileError(
            f"{path} was changed after it was saved (its checksum does not match); use the original file"
        )
    return metadata, tensors


def _check_tensor(path: Path, name: str, dtype: str, shape: list[int]) -> None:
    """Refuse types and shapes that no tensor of a model has, before it is read."""
    is_calibration = name in (CALIBRATION_SCORES, MAP_MEDIANS, MAP_MAXIMA)
    if name.startswith(PRODUCTS):
        check_product_tensor(path, name, dtype, shape)
    elif not is_calibration and not name.startswith(WEIGHTS):
        raise damaged(path, f"the tensor {name[:100]!r} belongs to no model")
    if is_calibration and (dtype != "F64" or len(shape) != 1):
        raise damaged(path, f"{name} is {dtype} {shape[:8]} instead of F64 and one-dimensional")
    if dtype not in DTYPES:
        raise damaged(path, f"{name[:100]} is {dtype}, and the tensors of a model are {', '.join(DTYPES)}")
    if 0 in shape:
        raise damaged(path, f"{name[:100]} is empty")


def _check_calibration_names(path: Path, names: list[str]) -> None:
    needed = {CALIBRATION_SCORES} | (
        {MAP_MEDIANS, MAP_MAXIMA} if {MAP_MEDIANS, MAP_MAXIMA} & {*names} else set()
    )
    for name in sorted(needed - {*names}):
        raise damaged(path, f"{name} is missing")


def _check_whole(path: Path) -> None:
    """Tell a truncated file from a foreign one, which the errors of safetensors do not."""
    size = path.stat().st_size
    foreign = ModelFileError(f"{path} is not a model of ganomaly; it was not written by `ganomaly fit`")
    truncated = ModelFileError(f"{path} is truncated ({size} bytes); copy or download it again")
    try:
        with path.open("rb") as file:
            start = file.read(9)
            if len(start) < 9:
                raise truncated if start == b"" else foreign
            (header_size,) = struct.unpack("<Q", start[:8])
            if header_size > MAX_HEADER or start[8:] != b"{":
                raise foreign
            header_bytes = start[8:] + file.read(header_size - 1)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(header_bytes) < header_size:
        raise truncated
    try:
        header = from_json(header_bytes)
        end = max(
            (entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0
        )
        if size < 8 + header_size + end:
            raise truncated
        check_readable(path)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError):
        raise foreign from None
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error


def _checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the metadata, then of name, type, shape and numbers of each tensor, sorted by name."""
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name in sorted(tensors):
        array = tensors[name].cpu().contiguous().numpy()
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(array.data)
    return digest.hexdigest()


def _dtype_name(tensor: Tensor) -> str:
    return next((name for name, dtype in DTYPES.items() if dtype == tensor.dtype), str(tensor.dtype))
