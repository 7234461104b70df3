"""The checksum of exported graphs: SHA-256 of everything before it, in the last `LENGTH` bytes of the file.

In ONNX it is the last entry of the metadata. In OpenVINO it is a comment after the graph, and covers the `.bin` with
the weights too. So any program can compute it without parsing the file.
"""

import hashlib
import re
from pathlib import Path

from ganomaly.config import GRAPH_ENDINGS
from ganomaly.errors import ModelFileError

CHECKSUM = "checksum"
"""The name of the checksum in a graph's metadata."""

LENGTH = 78
"""Bytes of a checksum with what is around it, the same in both formats."""

_ONNX, _OPENVINO = GRAPH_ENDINGS
_BEFORE = {
    # an entry of `metadata_props` as protocol buffers write it: field 14 of 76 bytes; its key; its value of 64 bytes
    _ONNX: b"\x72\x4c\x0a\x08" + CHECKSUM.encode() + b"\x12\x40",
    _OPENVINO: b"<!--sha256 ",
}
_AFTER = {_ONNX: b"", _OPENVINO: b"-->"}
_CHUNK = 2**20


def checksum_entry(suffix: str, *parts: bytes) -> bytes:
    """The bytes to append to a graph.

    Parameters
    ----------
    suffix : {'.onnx', '.xml'}
        The format of the graph.
    *parts
        The graph; of OpenVINO then the weights.
    """
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return _BEFORE[suffix] + digest.hexdigest().encode() + _AFTER[suffix]


def check_checksum(path: Path) -> bool:
    """Check the checksum of a graph, and return whether it has one; graphs of earlier versions have none.

    Raises
    ------
    ModelFileError
        If it does not match, or the file cannot be read.
    """
    suffix = path.suffix.lower()
    entry = re.compile(re.escape(_BEFORE[suffix]) + rb"([0-9a-f]{64})" + re.escape(_AFTER[suffix]))
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - LENGTH))
            written = entry.fullmatch(file.read(LENGTH))
        if written is None:
            return False
        digest = hashlib.sha256()
        _update(digest, path, size - LENGTH)
        if suffix == _OPENVINO:
            weights = path.with_suffix(".bin")
            if not weights.is_file():
                raise ModelFileError(f"{path} has no weights: {weights} is missing; copy both files")
            _update(digest, weights, weights.stat().st_size)
    except OSError as error:
        raise ModelFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if digest.hexdigest().encode() != written[1]:
        raise changed(path)
    return True


def changed(path: Path) -> ModelFileError:
    """The error about a graph that is not as it was exported."""
    return ModelFileError(
        f"{path} was changed after it was exported (its checksum does not match); use the original file, or export "
        "it again"
    )


def _update(digest: "hashlib._Hash", path: Path, size: int) -> None:
    """Add the first bytes of a file to a digest."""
    with path.open("rb") as file:
        while size > 0 and (chunk := file.read(min(size, _CHUNK))):
            digest.update(chunk)
            size -= len(chunk)
