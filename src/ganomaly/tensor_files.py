"""Tensors on disk."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ganomaly.errors import OutputError
from ganomaly.files import written_whole


def write_safetensors(path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and metadata to a safetensors file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    with written_whole(path) as part:
        try:
            save_file(contiguous, part, dict(metadata))
        except SafetensorError as error:  # what safetensors makes of an error of the system
            raise OutputError(f"cannot write {path}: {error}; nothing was left half-written") from error
