"""No output ever replaces an input: what is checked for every command before anything is read.

An existing file is replaced only if this package wrote it. That covers inputs whatever the path, the link or the case
they are reached by: an image, a mask or a dataset is never a file that this package writes.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ganomaly.errors import UsageError
from ganomaly.files import check_writable, part_name
from ganomaly.remote.location import Location, RemoteFile, location

_READ_BYTES = 2**20
_HEAD = 4096  # bytes in which a text file says what it is
_MAX_HEADER = 100_000_000  # bytes; the limit of the safetensors format
_MAX_JSON = 100_000_000  # bytes; larger ones are not ours


@dataclass(frozen=True)
class OutputKind:
    """A kind of file that this package writes.

    Attributes
    ----------
    name : str
        What messages call it, such as "report".
    suffixes : tuple of str
        Endings it may have, in lower case.
    is_ours : callable
        Whether an existing file that is not empty was written by this package as this kind.
    hint : str
        Ends the sentence about a wrong ending.
    """

    name: str
    suffixes: tuple[str, ...]
    is_ours: Callable[[Path], bool]
    hint: str = ""


def check_outputs(outputs: Mapping[str, tuple[Location | str | None, OutputKind]]) -> None:
    """Check the output files of a command.

    Parameters
    ----------
    outputs : mapping of str to (path, OutputKind)
        By the option that names them; None where an output is not asked for.

    Raises
    ------
    UsageError
        If an output has another ending than its kind, cannot be written, is also another output of this command, or
        would replace a file that this package did not write.
    """
    options: dict[tuple[object, ...], str] = {}
    for option, (name, kind) in outputs.items():
        if name is None:
            continue
        path = location(name)
        if path.suffix.lower() not in kind.suffixes:
            raise UsageError(
                f"{option} {path}: a {kind.name} must end in {_listed(kind.suffixes)}{kind.hint}"
            )
        check_writable(path)
        check_replaceable(path, kind)
        other = options.setdefault(_identity(path), option)
        if other != option:
            raise UsageError(f"{option} and {other} are the same file, {path}; name two files")


def check_replaceable(path: Location, kind: OutputKind) -> None:
    """Raise `UsageError` if `path` is an existing file that this package did not write as this kind."""
    try:
        if isinstance(path, RemoteFile):
            replaceable = _is_replaceable_in_store(path, kind)
        else:
            replaceable = not path.exists() or path.stat().st_size == 0 or kind.is_ours(path)
    except (OSError, ValueError):
        replaceable = False
    if not replaceable:
        raise UsageError(
            f"{path} exists and is not a {kind.name} that ganomaly wrote, so it is not replaced; "
            "name another file, or remove it first"
        )


def _is_replaceable_in_store(file: RemoteFile, kind: OutputKind) -> bool:
    from ganomaly.remote.transfer import local_copy, stored_file

    stored = stored_file(file)
    if stored is None or stored.size == 0:
        return True
    with local_copy(file) as copy:
        return kind.is_ours(copy)


def is_unfinished(path: Path, kind: OutputKind) -> bool:
    """Whether a killed process left all that it was to write to `path` in its temporary file."""
    part = part_name(path)
    return part.is_file() and part.stat().st_size > 0 and kind.is_ours(part)


def _identity(path: Location) -> tuple[object, ...]:
    """The same for two paths of one file, whether it exists or not."""
    if isinstance(path, RemoteFile):
        return (path.url,)
    path = Path(os.path.realpath(path))
    if path.exists():
        found = path.stat()
        return found.st_dev, found.st_ino
    folder = path.parent.stat()
    return (
        folder.st_dev,
        folder.st_ino,
        path.name if _is_case_sensitive(path.parent) else path.name.casefold(),
    )


def _is_case_sensitive(folder: Path) -> bool:
    swapped = folder.with_name(folder.name.swapcase())
    return swapped == folder or not (swapped.exists() and swapped.samefile(folder))


def _listed(suffixes: tuple[str, ...]) -> str:
    *others, last = suffixes
    return f"{', '.join(others)} or {last}" if others else last


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_HEAD)


def _is_our_table(path: Path) -> bool:
    match path.suffix.lower():
        case ".csv":
            return _head(path).startswith(b"path,score,normalized_score,")
        case ".jsonl":
            return _head(path).startswith(b'{"path": ') and b'"normalized_score": ' in _head(path)
        case _:
            return _head(path).startswith(b"PAR1") and _contains(path, b"normalized_score")


def _is_our_report(path: Path) -> bool:
    return b'<meta name="generator" content="ganomaly ' in _head(path)


def _is_our_json(path: Path) -> bool:
    if path.stat().st_size > _MAX_JSON:
        return False
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and ("image_auroc" in content or list(content) == ["rows"])


def _is_our_model(path: Path) -> bool:
    return b'"ganomaly-model"' in _safetensors_header(path)


def _is_our_checkpoint(path: Path) -> bool:
    return b'"ganomaly-checkpoint' in _safetensors_header(path)


def _safetensors_header(path: Path) -> bytes:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        return file.read(size) if size <= _MAX_HEADER else b""


def _is_our_png(path: Path) -> bool:
    """Whether the text that names the software, which `PNG_SOFTWARE` writes before the pixels, names this one."""
    head = _head(path)
    return head.startswith(b"\x89PNG") and b"Software\0ganomaly" in head


def _is_our_map(path: Path) -> bool:
    """A PNG of this package, or an array or a capture whose overlay is one."""
    if path.suffix.lower() in (".npy", ".dcm"):
        return _is_our_png(path.with_name(f"{path.stem}_overlay.png"))
    return _is_our_png(path)


def _is_our_benchmark_file(path: Path) -> bool:
    starts = {
        "rows.jsonl": (b'{"anomaly_class": ',),
        "rows.csv": (b"anomaly_class,",),
        "table.md": (b"AUROC, ", b"no rows"),
        "table.tex": (b"% AUROC, ", b"% no rows"),
    }
    head = _head(path).lstrip()
    # of rows there may be the beginning alone, where the first write was cut short
    return any(head.startswith(start) or start.startswith(head) for start in starts[path.name])


def _is_our_catalog_table(path: Path) -> bool:
    start = b"model,product,camera,status," if path.suffix == ".csv" else b'{\n  "models": ['
    return _head(path).startswith(start)


def _is_our_graph(path: Path) -> bool:
    return _contains(path, b"ganomaly-graph")


def _contains(path: Path, text: bytes) -> bool:
    """Whether a text is in a file; read in parts, because a bad block in a mapped file would end the process."""
    end = b""
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            if text in end + part:
                return True
            end = (end + part)[-len(text) :]
    return False


PNG_SOFTWARE = "ganomaly"
"""The text `Software` of every PNG that this package writes."""

TABLE = OutputKind("table of predictions", (".csv", ".jsonl", ".parquet"), _is_our_table)
REPORT = OutputKind("report", (".html", ".htm"), _is_our_report)
FIGURES_JSON = OutputKind("file of figures", (".json",), _is_our_json)
FIGURE = OutputKind("figure", (".png",), _is_our_png)
MAP = OutputKind("map or overlay", (".png", ".npy", ".dcm"), _is_our_map)
BENCHMARK_FILE = OutputKind("file of a benchmark", (".jsonl", ".csv", ".md", ".tex"), _is_our_benchmark_file)
CATALOG_TABLE = OutputKind("table of models", (".csv", ".json"), _is_our_catalog_table)
CHECKPOINT = OutputKind("checkpoint", (".checkpoint",), _is_our_checkpoint)
MODEL = OutputKind("model", (".safetensors",), _is_our_model, "; `ganomaly export` writes graphs")
ONNX_GRAPH = OutputKind("graph", (".onnx",), _is_our_graph)
OPENVINO_GRAPH = OutputKind("graph", (".xml",), _is_our_graph)
