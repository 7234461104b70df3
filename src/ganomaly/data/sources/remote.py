"""Images in stores: streamed for a prediction, copied to this machine for what needs them several times."""

import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.decoding import open_image
from ganomaly.data.readers.encoded_image import EncodedImage
from ganomaly.data.readers.registry import image_suffixes
from ganomaly.data.sources.dataset import (
    DerivedImages,
    ImageDataset,
    ImageRecord,
    LazySequence,
    StoredImage,
)
from ganomaly.errors import DataError, ImageError, StoreRefusalError, UsageError
from ganomaly.remote import RemoteFile, StoredFile, list_files, read
from ganomaly.remote.transfer import check_disk, download, named_as

KEPT_BYTES = 2**28
"""Of encoded images that are held in memory for who reads them a second time."""

WAITING_BYTES = 2**33
"""Of those that wait in temporary files, beyond `KEPT_BYTES`: more than a prediction is ahead of its map."""

CONNECTIONS = 16
"""Files that are copied at the same time: a store answers many at once, and each after some time."""

_NUMBERS = re.compile(r"([0-9]+)")


class RemoteImages(ImageDataset):
    """Images in files of a store, each read when it is asked for.

    Parameters
    ----------
    files : sequence of StoredFile
        In order. Each holds one image.
    name : str
        What messages call the dataset.
    keep_content : bool
        Whether an image that was read is held until it is read a second time, in the same order.
    """

    def __init__(self, files: Sequence[StoredFile], name: str, *, keep_content: bool = False) -> None:
        self.name = name
        self._files = files
        self._kept = _Kept(KEPT_BYTES, WAITING_BYTES) if keep_content else None
        self.records = LazySequence(len(files), lambda index: ImageRecord(str(files[index].file)))

    @contextmanager
    def open(self, index: int) -> Iterator[EncodedImage]:
        """Read an image, and open its bytes."""
        content = self._content(index)
        with open_image(content, name=self._files[index].file.name) as image:
            yield image

    def stored(self, index: int) -> StoredImage:
        """What the listing says of the file."""
        stored = self._files[index]
        return StoredImage(stored.name, stored.size, stored.time)

    def content_digest(self, index: int) -> bytes:
        """Hash the file; empty if there is none."""
        try:
            return xxhash.xxh3_128(self._content(index)).digest()
        except ImageError:
            return b""

    def identity(self, index: int) -> bytes:
        """Name and size of the file."""
        stored = self._files[index]
        return f"{stored.name}\0{stored.size}".encode(errors="surrogateescape")

    @property
    def concurrent_reads(self) -> int:
        """As many as connections: each waits for the store most of the time."""
        return CONNECTIONS

    def part(self, start: int, stop: int) -> "RemoteImages":
        """The images from one index up to another."""
        return RemoteImages(self._files[start:stop], self.name)

    def _content(self, index: int) -> bytes:
        file = self._files[index].file
        content = None if self._kept is None else self._kept.get(index)
        if content is None:
            try:
                content = read(file)
            except FileNotFoundError:
                raise ImageError(f"{file.name} does not exist; check the path") from None
            except StoreRefusalError as error:
                raise ImageError(f"{file.name} cannot be opened: {error}") from None
            if self._kept is not None:
                self._kept.put(index, content)
        return content


class _Kept:
    """Encoded images for who reads them a second time, in memory and beyond that in temporary files.

    Whoever reads an image a second time needs those before it no more, and they are dropped: at any time there are as
    many as the first read is ahead of the second.

    Parameters
    ----------
    max_bytes, max_waiting : int
        Bytes in memory and in files; what exceeds both is not held.
    """

    def __init__(self, max_bytes: int, max_waiting: int) -> None:
        self._limits = max_bytes, max_waiting
        self._in_memory: dict[int, bytes] = {}
        self._in_files: dict[int, int] = {}  # sizes
        self._bytes = self._waiting = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process begins with an empty cache."""
        return type(self), self._limits

    def get(self, index: int) -> bytes | None:
        """An image that is read a second time; None if it is not here."""
        with self._lock:
            if index in self._in_memory:
                content = self._in_memory[index]
            elif index in self._in_files:
                try:
                    content = self._path(index).read_bytes()
                except OSError:  # removed by whoever cleans such folders
                    return None
            else:
                return None
            self._drop_before(index)
            return content

    def put(self, index: int, content: bytes) -> None:
        """Hold an image that was read."""
        max_bytes, max_waiting = self._limits
        with self._lock:
            if index in self._in_memory or index in self._in_files:
                return
            if self._bytes + len(content) <= max_bytes:
                self._in_memory[index] = content
                self._bytes += len(content)
            elif self._waiting + len(content) <= max_waiting:
                self._write(index, content)

    def _write(self, index: int, content: bytes) -> None:
        try:
            path = self._path(index)
            try:
                path.write_bytes(content)
            except OSError:
                path.unlink(missing_ok=True)
                raise
        except OSError:  # no room: whoever needs it asks the store again
            return
        self._in_files[index] = len(content)
        self._waiting += len(content)

    def _drop_before(self, index: int) -> None:
        for earlier in [held for held in self._in_memory if held < index]:
            self._bytes -= len(self._in_memory.pop(earlier))
        for earlier in [held for held in self._in_files if held < index]:
            self._waiting -= self._in_files.pop(earlier)
            self._path(earlier).unlink(missing_ok=True)

    def _path(self, index: int) -> Path:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="ganomaly-images-")
        return Path(self._folder.name) / str(index)


def images_below(folder: RemoteFile) -> tuple[list[StoredFile], list[RemoteFile]]:
    """Images and parquet files below a folder of a store, each in natural order.

    Raises
    ------
    UsageError
        If it is of a web server, which cannot be listed, or nothing is there.
    """
    if folder.is_web:
        raise UsageError(
            f"{folder} is no image by its name, and a web server lists no folders; name images, parquet, or a "
            "text file with one address in each line"
        )
    found = list_files(folder)
    if not found:
        raise _nothing_at(folder)
    suffixes = image_suffixes()
    images = [stored for stored in found if _suffix(stored.name) in suffixes]
    parquet = [stored.file for stored in found if _suffix(stored.name) == ".parquet"]
    images.sort(key=lambda stored: _natural_key(stored.name))
    return images, sorted(parquet, key=lambda file: _natural_key(file.path))


def _nothing_at(source: RemoteFile) -> UsageError:
    # a hub does not say whether there is something that the token may not see
    remedy = "path, and the token in HF_TOKEN" if source.scheme == "hf" else "path"
    return UsageError(f"{source} does not exist, or nothing is in it; check the {remedy}")


@dataclass(frozen=True)
class LocalCopy:
    """A dataset of a store, copied to this machine.

    Attributes
    ----------
    source : RemoteFile
        The folder or file in the store.
    root : Path
        Its copy.
    folder : TemporaryDirectory or None
        Holds the copy, which goes with it; None for a copy that another process made and removes.
    """

    source: RemoteFile
    root: Path
    folder: "tempfile.TemporaryDirectory[str] | None" = None


def copy_dataset(source: RemoteFile, split: str, check: Callable[[], None] = lambda: None) -> LocalCopy:
    """Copy a dataset to the folder for temporary files: each file is read once, however often its image is.

    Parameters
    ----------
    source : RemoteFile
        A folder, or a file.
    split : str
        `train` or `test`: where the folder has such a subfolder, or parquet with this in its path, only that is
        copied, and masks.
    check : callable
        Called after each file; may raise what ends the copying.

    Raises
    ------
    UsageError
        If nothing is there.
    StoreError
        If the disk has no room for it, or the store does not answer.
    """
    folder = tempfile.TemporaryDirectory(prefix="ganomaly-data-")
    root = Path(folder.name) / (source.name or source.host)
    found = [] if source.is_web else list_files(source)
    if found:
        copy_files(_of_split(found, split), root, source, check)
    else:
        try:
            download(source, root)
        except FileNotFoundError:
            raise _nothing_at(source) from None
    return LocalCopy(source, root, folder)


class CopiedImages(DerivedImages):
    """A dataset whose files are copies of those in a store, and are called as those.

    Parameters
    ----------
    copy : LocalCopy
        Kept as long as the dataset.
    open_local : callable
        Opens the copy.
    """

    def __init__(self, copy: LocalCopy, open_local: Callable[[Path], ImageDataset]) -> None:
        with named_as(copy.root, copy.source):
            dataset = open_local(copy.root)
        super().__init__([dataset])
        self._dataset, self._copy = dataset, copy
        self._names = (str(copy.root), str(copy.source))
        self.name = dataset.name.replace(*self._names)
        self.records = LazySequence(len(dataset), self._record)

    def _record(self, index: int) -> ImageRecord:
        record = self._dataset.records[index]
        return ImageRecord(record.path.replace(*self._names, 1), record.kind, record.is_anomalous)

    def _located(self, index: int) -> tuple[ImageDataset, int]:
        return self._dataset, index


def _of_split(found: list[StoredFile], split: str) -> list[StoredFile]:
    """The files of a split and the masks, where the listing has a folder or parquet of it; else all."""
    folders = (f"{split}/", "ground_truth/")
    chosen = [stored for stored in found if stored.name.startswith(folders)]
    if any(stored.name.startswith(f"{split}/") for stored in chosen):
        return [s for s in chosen if split == "test" or s.name.startswith(folders[:1])]
    parquet = [s for s in found if _suffix(s.name) == ".parquet" and split in s.name.casefold()]
    has_images = any(_suffix(stored.name) in image_suffixes() for stored in found)
    return parquet if parquet and not has_images else found


def copy_files(
    files: Sequence[StoredFile], root: Path, source: RemoteFile, check: Callable[[], None] = lambda: None
) -> None:
    """Copy files below a folder of a store to one of this machine, several at a time, with their times.

    Parameters
    ----------
    files : sequence of StoredFile
        As `list_files` gives them.
    root : Path
        The new folder.
    source : RemoteFile
        What messages call the folder in the store.
    check : callable
        Called after each file; may raise what ends the copying.

    Raises
    ------
    StoreError
        If the disk has no room for them, or the store does not answer.
    DataError
        If a name cannot be one on a disk, or a file is removed meanwhile.
    """
    root.mkdir(parents=True)
    check_disk(root, sum(max(stored.size, 0) for stored in files), str(source))
    for stored in files:
        if ".." in stored.name.split("/"):  # a key may be any text
            raise DataError(
                f"{source} holds a file called {stored.name!r}, which no disk can; name a folder in it"
            )
        (root / stored.name).parent.mkdir(parents=True, exist_ok=True)

    def copy_one(stored: StoredFile) -> None:
        target = root / stored.name
        try:
            download(stored.file, target)
        except FileNotFoundError:
            raise DataError(f"{stored.file} was removed while {source} was copied; try again") from None
        os.utime(target, ns=(stored.time, stored.time))  # counts in the fingerprint, by which a run resumes

    with closing(in_order(copy_one, files, workers=CONNECTIONS, ahead=2 * CONNECTIONS)) as copies:
        for _ in copies:
            check()


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - a path for each of a million names is slow


def _natural_key(name: str) -> list[list[str | int]]:
    """As for folders on disk: part by part, numbers by their value."""
    return [
        [int(text) if position % 2 else text for position, text in enumerate(_NUMBERS.split(part))]
        for part in name.split("/")
    ]
