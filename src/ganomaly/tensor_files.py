"""Tensors on disk."""

from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from ganomaly.files import written_whole
from ganomaly.remote import Location

_READ_BYTES = 2**20


def write_safetensors(
    path: str | Location, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors and metadata to a safetensors file, whole or not at all.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    contiguous = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    # not `save_file`, which writes a temporary file of its own that a killed process leaves behind
    content = save(contiguous, dict(metadata))
    with written_whole(path) as part:
        part.write_bytes(content)


def check_readable(path: Path) -> None:
    """Read a file once before safetensors maps it into memory, where a bad block would end the process (SIGBUS).

    Raises
    ------
    OSError
        If the disk fails.
    """
    buffer = bytearray(_READ_BYTES)
    with path.open("rb", buffering=0) as file:
        while file.readinto(buffer):
            pass
