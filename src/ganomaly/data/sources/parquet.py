"""Images in parquet files, in the layout of Hugging Face datasets."""

import hashlib
import json
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import xxhash
from numpy.typing import NDArray

from ganomaly.data.readers.decoding import open_image
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.sources.dataset import ImageDataset, ImageRecord, LazySequence, StoredImage
from ganomaly.data.special_files import special_kind
from ganomaly.errors import DataError, ImageError
from ganomaly.remote import Location, RemoteFile, opened

IMAGE_COLUMNS = ("image", "img")
LABEL_COLUMN = "label"

_CACHE_BYTES = 16 * 2**20
_UNLABELLED = -1
_ARROW_ERRORS = (pa.ArrowException, OSError, ValueError)


class ParquetImages(ImageDataset):
    """Images in parquet files: a column `image` or `img`, and perhaps `label`.

    The image is binary, or a struct with the binary field `bytes`. Names of labels are taken from the metadata
    that Hugging Face writes; otherwise the label itself is the name. Row groups are read when needed, and a few
    are cached, so that memory stays flat when images are read in order. Reading in random order works, but reads a
    whole row group for each image once the files are larger than the cache.

    Parameters
    ----------
    files : sequence of Path or RemoteFile
        In order. Of files in stores the parts that are needed are read.
    name : str, optional
        What messages call the dataset.

    Raises
    ------
    DataError
        If a file is truncated, is not parquet, or has no column of images.
    """

    def __init__(self, files: Sequence[Location], name: str | None = None) -> None:
        self.name = name or ", ".join(map(str, files))
        self._files = [_ParquetFile.opened(path) for path in files]
        if not any(file.rows for file in self._files):
            raise DataError(f"no images in {self.name or 'the list of parquet files'}: no rows are there")
        self._ends = np.cumsum([file.rows for file in self._files])
        self._names, self._codes = _labels(self._files)
        self._rows = np.arange(self._ends[-1])
        self._normal_kinds: frozenset[str] | None = None
        self._row_groups = _RowGroupCache(_CACHE_BYTES)
        self.records = LazySequence(len(self._rows), self._record)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the labels; empty if there are no labels."""
        present = np.unique(self._codes[self._rows])
        return tuple(self._names[code] for code in present if code != _UNLABELLED)

    @property
    def label_is_boolean(self) -> bool:
        """Whether the labels are true or false."""
        return all(
            file.label_type is not None and pa.types.is_boolean(file.label_type) for file in self._files
        )

    def labelled(self, normal_kinds: Collection[str]) -> "ParquetImages":
        """The same images, with those of these kinds labelled normal and those of other kinds anomalous."""
        return self._changed(self._rows, frozenset(normal_kinds), self.name)

    def only(self, kinds: Collection[str]) -> "ParquetImages":
        """The images of these kinds alone, labelled normal."""
        codes = [code for code, name in enumerate(self._names) if name in kinds]
        rows = self._rows[np.isin(self._codes[self._rows], codes)]
        return self._changed(rows, frozenset(kinds), f"{self.name} (label {', '.join(sorted(kinds))})")

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        """Open the bytes of a row."""
        path, content = self._content(index)
        with open_image(content, name=path) as image:
            yield image

    def stored(self, index: int) -> StoredImage:
        """Size and time of the parquet file; rows have no names."""
        number, _ = self._located(self._rows[index])
        path = self._files[number].path
        if isinstance(path, RemoteFile):
            return StoredImage("", int(self._files[number].metadata.serialized_size), 0)
        return StoredImage.of("", path)

    def content_digest(self, index: int) -> bytes:
        """Hash the bytes of a row."""
        try:
            return xxhash.xxh3_128_digest(self._content(index)[1])
        except ImageError:
            return b""

    def identity(self, index: int) -> bytes:
        """Hash the bytes of a row."""
        try:
            return hashlib.sha256(self._content(index)[1]).digest()
        except ImageError as error:
            return str(error).encode()

    def part(self, start: int, stop: int) -> "ParquetImages":
        """The images from one index up to another, with the footers of those files alone that have them."""
        rows = self._rows[start:stop]
        first, last = (
            int(np.searchsorted(self._ends, row, side="right")) for row in (rows.min(), rows.max())
        )
        offset = int(self._ends[first - 1]) if first else 0
        part = copy(self)
        part._files = self._files[first : last + 1]
        part._ends = self._ends[first : last + 1] - offset
        part._codes = self._codes[offset : int(self._ends[last])]
        part._row_groups = _RowGroupCache(_CACHE_BYTES)
        part._rows = rows - offset
        part.records = LazySequence(len(rows), part._record)
        return part

    def _changed(self, rows: NDArray[np.int64], normal_kinds: frozenset[str], name: str) -> "ParquetImages":
        changed = copy(self)  # the cache is shared
        changed._rows, changed._normal_kinds, changed.name = rows, normal_kinds, name
        changed.records = LazySequence(len(rows), changed._record)
        return changed

    def _record(self, index: int) -> ImageRecord:
        row = self._rows[index]
        number, row_in_file = self._located(row)
        code = self._codes[row]
        kind = None if code == _UNLABELLED else self._names[code]
        is_anomalous = None if kind is None or self._normal_kinds is None else kind not in self._normal_kinds
        return ImageRecord(f"{self._files[number].path}#{row_in_file}", kind, is_anomalous)

    def _located(self, row: np.int64) -> tuple[int, int]:
        """The number of the file that holds a row, and the number of the row in this file."""
        number = int(np.searchsorted(self._ends, row, side="right"))
        return number, int(row) - int(self._ends[number]) + self._files[number].rows

    def _content(self, index: int) -> tuple[str, bytes]:
        number, row_in_file = self._located(self._rows[index])
        file = self._files[number]
        name = f"{file.path.name}#{row_in_file}"
        try:
            content = self._row_groups.cell(number, file, row_in_file)
        except FileNotFoundError:
            raise ImageError(f"{name} cannot be read: the parquet file does not exist any more") from None
        except _ARROW_ERRORS as error:
            reason = " ".join(str(error).split())[:120]
            raise ImageError(f"{name} cannot be read: the parquet file is damaged ({reason})") from error
        if content is None:
            raise ImageError(
                f"{name} holds no image: its bytes are missing, and its path alone is not followed"
            )
        return name, content


@dataclass(frozen=True)
class _ParquetFile:
    """What the footer of a file says."""

    path: Location
    metadata: Any
    schema: Any
    column: str
    group_ends: NDArray[np.int64]

    @classmethod
    def opened(cls, path: Location) -> "_ParquetFile":
        kind = None if isinstance(path, RemoteFile) else special_kind(path)
        if kind is not None:  # opening it could wait forever
            raise DataError(f"{path} is a {kind} and no parquet file; name a file")
        try:
            metadata, schema = _footer(path)
        except FileNotFoundError:
            raise DataError(f"{path} does not exist; check the path") from None
        except _ARROW_ERRORS as error:
            reason = " ".join(str(error).split())[:120]
            raise DataError(f"{path} is truncated or no parquet file ({reason}); fetch it again") from error
        groups = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if min(groups, default=0) < 0 or sum(groups) != metadata.num_rows:
            raise DataError(
                f"{path} is damaged: it has {metadata.num_rows} rows, but its parts have {groups[:10]}"
            )
        for name in (*IMAGE_COLUMNS, LABEL_COLUMN):
            if schema.names.count(name) > 1:
                raise DataError(
                    f"{path} has {schema.names.count(name)} columns called {name}; leave one of them"
                )
        return cls(path, metadata, schema, _image_column(path, schema), np.cumsum(groups, dtype=np.int64))

    @property
    def rows(self) -> int:
        return int(self.metadata.num_rows)

    @property
    def label_type(self) -> Any:
        """Type of the labels; None if there are no labels."""
        return self.schema.field(LABEL_COLUMN).type if LABEL_COLUMN in self.schema.names else None

    def cells(self, group: int) -> list[Any]:
        """The binary values of a row group, in batches."""
        with (
            opened(self.path) as source,
            pq.ParquetFile(source, metadata=self.metadata, page_checksum_verification=True) as file,
        ):
            # batches, because a struct of more than 2 GiB cannot be read in one piece
            batches = list(file.iter_batches(row_groups=[group], columns=[self.column]))
        name = self.column.partition(".")[0]  # a column may itself be called image.bytes
        return [_binary(batch.column(batch.schema.get_field_index(name))) for batch in batches]


def _footer(path: Location) -> tuple[Any, Any]:
    with opened(path) as source, pq.ParquetFile(source) as file:
        return file.metadata, file.schema_arrow


def _image_column(path: Location, schema: Any) -> str:
    """The column to read, or its field of bytes."""
    for name in IMAGE_COLUMNS:
        if name in schema.names:
            kind = schema.field(name).type
            if _is_binary(kind):
                return name
            if (
                pa.types.is_struct(kind)
                and kind.get_field_index("bytes") >= 0
                and _is_binary(kind.field("bytes").type)
            ):
                return f"{name}.bytes"
    raise DataError(
        f"{path} has no images: a column `image` or `img` of binary, or of struct{{bytes, path}}, is needed, "
        f"and its columns are {', '.join(f'{field.name} ({field.type})' for field in schema)[:200]}"
    )


def _is_binary(kind: Any) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _binary(column: Any) -> Any:
    return pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


class _RowGroupCache:
    """The row groups read last; at least two, since threads that read in order work on two neighbouring ones.

    The one that was read first is evicted first, however recently it was used: a thread that lags behind must not
    make the others lose the one they need next.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._row_groups: dict[tuple[int, int], list[Any]] = {}
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process begins with an empty cache."""
        return type(self), (self._max_bytes,)

    def cell(self, number: int, file: _ParquetFile, row: int) -> bytes | None:
        """Bytes of a row of the file with this number; None where they are missing."""
        group = int(np.searchsorted(file.group_ends, row, side="right"))
        position = row - (int(file.group_ends[group - 1]) if group else 0)
        with self._lock:  # a thread that needs the same row group waits for it instead of reading it too
            batches = self._row_groups.get((number, group))
            if batches is None:
                batches = self._row_groups[number, group] = file.cells(group)
                self._evict()
        for batch in batches:
            if position < len(batch):
                content: bytes | None = batch[position].as_py()
                return content
            position -= len(batch)
        raise pa.ArrowInvalid(f"row group {group} has fewer rows than it says")

    def _evict(self) -> None:
        while len(self._row_groups) > 2 and self._bytes() > self._max_bytes:
            del self._row_groups[next(iter(self._row_groups))]

    def _bytes(self) -> int:
        return sum(batch.nbytes for batches in self._row_groups.values() for batch in batches)


def _labels(files: Sequence[_ParquetFile]) -> tuple[list[str], NDArray[np.int32]]:
    """Names of the labels, and for each row the index of its name or `_UNLABELLED`."""
    code_by_name: dict[str, int] = {}
    codes = []
    for file in files:
        names = _label_names(file)
        file_codes = np.full(file.rows, _UNLABELLED, dtype=np.int32)
        if names is not None:
            for row, name in enumerate(names):
                if name is not None:
                    file_codes[row] = code_by_name.setdefault(name, len(code_by_name))
        codes.append(file_codes)
    return list(code_by_name), np.concatenate(codes)


def _label_names(file: _ParquetFile) -> list[str | None] | None:
    """Name of the label of each row; None if there are no labels."""
    kind = file.label_type
    if kind is None:
        return None
    try:
        with opened(file.path) as source:
            table = pq.read_table(source, columns=[LABEL_COLUMN], page_checksum_verification=True)
        labels = table.column(0).to_pylist()
    except _ARROW_ERRORS as error:
        reason = " ".join(str(error).split())[:120]
        raise DataError(f"the labels of {file.path} cannot be read ({reason}); fetch it again") from error
    if len(labels) != file.rows:
        raise DataError(
            f"{file.path} is damaged: it has {file.rows} rows, but {len(labels)} labels; fetch it again"
        )
    class_names = _class_names(file.schema) if pa.types.is_integer(kind) else []
    return [_label_name(label, class_names) for label in labels]


def _label_name(label: Any, class_names: Sequence[str]) -> str | None:
    if label is None:
        return None
    if class_names and isinstance(label, int):
        return class_names[label] if 0 <= label < len(class_names) else None  # −1 stands for no label
    return str(label)


def _class_names(schema: Any) -> list[str]:
    """Names of the labels in the metadata that Hugging Face writes; empty without them."""
    try:
        info = json.loads((schema.metadata or {})[b"huggingface"])
        names = info["info"]["features"][LABEL_COLUMN]["names"]
    except (KeyError, TypeError, ValueError, RecursionError):  # metadata may hold anything
        return []
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        return []
    return [str(name) for name in names]
