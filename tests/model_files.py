"""Model files and graphs with other contents and a checksum that matches, as only a deliberate edit gives them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor


def read_model_file(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """Metadata without the checksum, and the tensors."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    metadata.pop("checksum")
    return metadata, tensors


def write_model_file(path: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> Path:
    """Write a model file whose checksum matches."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(contiguous, path, dict(metadata) | {"checksum": checksum(metadata, contiguous)})
    return path


def checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of the metadata, then of name, dtype, shape and bytes of each tensor, sorted by name."""
    digest = hashlib.sha256(json.dumps(dict(sorted(metadata.items()))).encode())
    for name, tensor in sorted(tensors.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(f"{name} {dtype} {tuple(tensor.shape)} ".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def with_model_json(path: Path, target: Path, edit: Mapping[str, Any]) -> Path:
    """A copy with other values in the JSON that describes the model; `...` removes one."""
    metadata, tensors = read_model_file(path)
    description = json.loads(metadata["model"]) | edit
    remaining = {name: value for name, value in description.items() if value is not ...}
    return write_model_file(target, metadata | {"model": json.dumps(remaining)}, tensors)


def with_onnx_checksum(graph: bytes) -> bytes:
    """An ONNX graph that ends with its checksum."""
    digest = hashlib.sha256(graph).hexdigest()
    ending = onnx.ModelProto(metadata_props=[onnx.StringStringEntryProto(key="checksum", value=digest)])
    return graph + ending.SerializeToString()


def with_openvino_checksum(graph: bytes, weights: bytes) -> bytes:
    """The `.xml` of an OpenVINO graph that ends with the checksum of both files."""
    return graph + f"<!--sha256 {hashlib.sha256(graph + weights).hexdigest()}-->".encode()


def write_graph(path: Path, proto: onnx.ModelProto) -> Path:
    """Write an ONNX graph whose checksum matches, in the place of the one it had."""
    entries = [entry for entry in proto.metadata_props if entry.key != "checksum"]
    del proto.metadata_props[:]
    proto.metadata_props.extend(entries)
    path.write_bytes(with_onnx_checksum(proto.SerializeToString()))
    return path


def with_metadata(path: Path, target: Path, edit: Mapping[str, str]) -> Path:
    """A copy of an ONNX graph with other texts in its metadata."""
    proto = onnx.load(path)
    for entry in proto.metadata_props:
        entry.value = edit.get(entry.key, entry.value)
    return write_graph(target, proto)


def with_graph_json(path: Path, target: Path, edit: Mapping[str, Any]) -> Path:
    """A copy of an ONNX graph with other values in the JSON that describes the model; `...` removes one."""
    metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    description = json.loads(metadata["model"]) | edit
    remaining = {name: value for name, value in description.items() if value is not ...}
    return with_metadata(path, target, {"model": json.dumps(remaining)})
