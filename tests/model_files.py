"""Model files with other contents and a checksum that matches, as only a deliberate edit gives them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    kept = {name: value for name, value in description.items() if value is not ...}
    return write_model_file(target, metadata | {"model": json.dumps(kept)}, tensors)
