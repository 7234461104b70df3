"""A folder of scores in parts: what it holds, what is missing, and whether it belongs to the same run.

Each part is a parquet file that one worker writes whole, so that each image is in exactly one row, whatever is
killed; the number of a part and the column `index` give the order of the images back. `manifest.json` says which
images and which model the parts are of.
"""

import hashlib
import json
import math
import socket
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ganomaly.data import ImageDataset
from ganomaly.errors import DataError, UsageError
from ganomaly.files import make_folder, written_whole
from ganomaly.remote import Location, RemoteFile, list_files, opened, read

FORMAT = "ganomaly-scores"
MANIFEST = "manifest.json"
COUNTS = b"ganomaly"
"""Key of a part's own counts in its metadata."""

LARGEST_PART = 1024
"""Images: what a killed worker loses, a few seconds of work."""

SMALLEST_PART = 64
PARTS_PER_WORKER = 16
"""At least, where there are enough images: the last ones to finish then wait for little."""

MOST_PARTS = 100_000
"""However many images: each part is a request or two, and a task."""

READERS = 16
"""Footers that are read at once: each request to a store waits for its answer."""


@dataclass(frozen=True)
class Plan:
    """Which images of a dataset are in which part.

    Attributes
    ----------
    images : int
        Number of images.
    images_per_part : int
        In each part but the last.
    inputs : str
        Digest of the names of all images in order.
    model : str
        Digest of the model's file.
    """

    images: int
    images_per_part: int
    inputs: str
    model: str

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return math.ceil(self.images / self.images_per_part)

    def bounds(self, part: int) -> tuple[int, int]:
        """Index of the first image of a part, and of the first after it."""
        start = part * self.images_per_part
        return start, min(start + self.images_per_part, self.images)


@dataclass(frozen=True)
class PartCounts:
    """What a part holds.

    Attributes
    ----------
    rows, anomalous, unreadable, not_finite : int
        Number of rows, of anomalous images, of images without a score, and of those without one because it is not a
        number.
    """

    rows: int
    anomalous: int
    unreadable: int
    not_finite: int


def part_name(part: int) -> str:
    """Name of the file of a part."""
    return f"part-{part:06}.parquet"


def images_per_part(n_images: int, n_workers: int) -> int:
    """A multiple of `SMALLEST_PART`, so that batches of the networks are full.

    >>> images_per_part(1_000, 2), images_per_part(100_000, 2), images_per_part(1_000_000_000, 1_000)
    (64, 1024, 10048)
    """
    size = min(math.ceil(n_images / (PARTS_PER_WORKER * n_workers)), LARGEST_PART)
    size = max(size, math.ceil(n_images / MOST_PARTS), 1)
    return math.ceil(size / SMALLEST_PART) * SMALLEST_PART


def make_plan(dataset: ImageDataset, model: str, n_workers: int) -> Plan:
    """Divide a dataset into parts.

    Parameters
    ----------
    dataset : ImageDataset
        The images.
    model : str
        Digest of the model's file.
    n_workers : int
        How many will work.
    """
    digest = hashlib.blake2b(digest_size=16)
    for record in dataset.records:
        digest.update(record.path.encode(errors="surrogateescape") + b"\0")
    return Plan(len(dataset), images_per_part(len(dataset), n_workers), digest.hexdigest(), model)


def check_folder(folder: Location) -> None:
    """Raise `UsageError` if parts cannot be written to a folder because of what is there."""
    if isinstance(folder, RemoteFile):
        (folder / MANIFEST).check_writable()
    elif folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; with --engine ray, --out is a folder")


def begin(folder: Location, plan: Plan) -> tuple[Plan, dict[int, PartCounts]]:
    """Begin a folder of parts, or go on with one that another run of the same images and model left.

    Returns
    -------
    plan : Plan
        As given, or that of the earlier run, whose parts may be of another size.
    finished : dict of int to PartCounts
        The parts that are there.

    Raises
    ------
    UsageError
        If the folder holds something else, or parts of other images or of another model.
    StoreError
        If a store does not answer.
    """
    names = _names(folder)
    if MANIFEST not in names:
        if names:
            raise UsageError(
                f"{folder} is not empty and holds no {MANIFEST}; name a new folder for the parts"
            )
        _write_manifest(folder, plan, None)
        return plan, {}
    earlier = _read_manifest(folder)
    for what, name in (("images", "inputs"), ("model", "model")):
        if getattr(earlier, name) != getattr(plan, name):
            raise UsageError(
                f"{folder} holds scores of another run, with other {what}; name a new folder, or repeat that run's "
                "command to go on with it"
            )
    written = (part for part in range(earlier.n_parts) if part_name(part) in names)
    return earlier, _complete_parts(folder, earlier, written)


def check_manifest(folder: Location, plan: Plan) -> None:
    """Check that a folder still holds the parts of a plan. A store has no locks: another command may have begun too.

    Raises
    ------
    UsageError
        If the manifest is of another plan, or there is none, as where a machine does not have the folder.
    StoreError
        If a store does not answer.
    """
    try:
        found = _read_manifest(folder)
    except FileNotFoundError:
        raise UsageError(
            f"{folder} has no {MANIFEST} on {socket.gethostname()}; let --out be a folder that all machines share"
        ) from None
    if found != plan:
        raise UsageError(
            f"another command writes other parts to {folder}; wait until it has ended, then repeat this one"
        )


def finish(folder: Location, plan: Plan, counts: dict[int, PartCounts]) -> PartCounts:
    """Write the manifest of a folder that has all parts, and give their sums.

    Parameters
    ----------
    folder : Path or RemoteFile
        The folder, whose manifest and parts are read again.
    plan : Plan
        Of the parts.
    counts : dict of int to PartCounts
        What this run has read or written.

    Raises
    ------
    DataError
        If a part is missing, or holds something else than this run has written.
    UsageError
        If another command has written its manifest.
    StoreError
        If a store does not answer.
    """
    check_manifest(folder, plan)
    found = _complete_parts(folder, plan, counts)
    for part in range(plan.n_parts):
        if part not in found or found[part] != counts[part]:
            raise DataError(f"{folder / part_name(part)} is not complete; repeat the command to go on")
    total = PartCounts(*(sum(column) for column in zip(*map(_values, counts.values()), strict=True)))
    _write_manifest(folder, plan, total)
    return total


def failures(folder: Location, counts: dict[int, PartCounts]) -> Iterator[tuple[str, str]]:
    """Path and error of the images that could not be read, in order; a part is opened when it is needed.

    Raises
    ------
    DataError
        If a part is missing or damaged.
    StoreError
        If a store does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in sorted(counts):
        if counts[part].unreadable == 0:
            continue
        file = folder / part_name(part)
        try:
            with opened(file) as source:
                table = pq.read_table(source, columns=["path", "error"])
        except (pa.ArrowException, OSError):
            raise DataError(f"{file} is missing or damaged; repeat the command to write it again") from None
        for row in table.to_pylist():
            if row["error"] is not None:
                yield row["path"], row["error"]


def counts_as_metadata(counts: PartCounts) -> dict[bytes, bytes]:
    """Counts as metadata of a parquet file."""
    return {COUNTS: json.dumps(asdict(counts)).encode()}


def read_counts(file: Location) -> PartCounts | None:
    """Counts in the metadata of a part; None if it is missing, damaged or not a part.

    Raises
    ------
    StoreError
        If a store does not answer.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with opened(file) as source:
            footer = pq.read_metadata(source)
        counts = PartCounts(**json.loads(footer.metadata[COUNTS]))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):
        return None
    return counts if counts.rows == footer.num_rows else None


def _complete_parts(folder: Location, plan: Plan, parts: Iterable[int]) -> dict[int, PartCounts]:
    """Counts of those parts that have a row for each of their images."""
    parts = list(parts)
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda part: read_counts(folder / part_name(part)), parts))
    complete = {}
    for part, counts in zip(parts, found, strict=True):
        start, stop = plan.bounds(part)
        if counts is not None and counts.rows == stop - start:
            complete[part] = counts
    return complete


def _values(counts: PartCounts) -> tuple[int, ...]:
    return tuple(asdict(counts).values())


def _names(folder: Location) -> set[str]:
    if isinstance(folder, RemoteFile):
        return {stored.name for stored in list_files(folder)}
    # temporary files of killed workers are hidden
    return {path.name for path in folder.iterdir() if path.name[0] != "."} if folder.is_dir() else set()


def _write_manifest(folder: Location, plan: Plan, total: PartCounts | None) -> None:
    if isinstance(folder, Path):
        make_folder(folder, " for the parts")
    content: dict[str, Any] = {
        "format": FORMAT,
        "format_version": 1,
        **asdict(plan),
        "parts": plan.n_parts,
        "is_complete": total is not None,
        "counts": None if total is None else asdict(total),
    }
    with written_whole(folder / MANIFEST) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def _read_manifest(folder: Location) -> Plan:
    """The plan of a manifest; `FileNotFoundError` where there is none."""
    file = folder / MANIFEST
    try:
        content = json.loads(read(file) if isinstance(file, RemoteFile) else file.read_bytes())
        if content["format"] != FORMAT or content["format_version"] != 1:
            raise ValueError
        plan = Plan(**{name: content[name] for name in Plan.__dataclass_fields__})
        if not (plan.images > 0 and plan.images_per_part > 0):
            raise ValueError
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{file} is no manifest of scores; name a new folder for the parts") from None
    return plan
