"""The folder of a data set on this machine: its own, or a copy of one in a store."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ganomaly.benchmark.tasks import BAGGAGE, ELPV, BenchmarkDataset, check_layout
from ganomaly.data.sources.remote import copy_files
from ganomaly.errors import UsageError
from ganomaly.remote import Location, RemoteFile, StoredFile, list_files


@contextmanager
def local_dataset(name: str, folder: Location) -> Iterator[BenchmarkDataset]:
    """A data set; one in a store is copied, each file once, and the copy goes when the block ends.

    Parameters
    ----------
    name : str
        As for `BenchmarkDataset`.
    folder : Path or RemoteFile
        As for `BenchmarkDataset`, or a folder in a store.

    Raises
    ------
    UsageError
        If nothing is in the store's folder, or it is not in the layout of the data set; if images would be simulated
        into it. Errors of the block name the folder in the store, not its copy.
    StoreError
        If the disk has no room for the copy, or the store does not answer.
    """
    if name == ELPV:  # comes with a package
        yield BenchmarkDataset(name, Path())
        return
    if not isinstance(folder, RemoteFile):
        yield BenchmarkDataset(name, folder)
        return
    files = _listed(name, folder)
    with tempfile.TemporaryDirectory(prefix="ganomaly-data-") as temporary:
        dataset = BenchmarkDataset(name, Path(temporary) / (folder.name or folder.host), folder)
        copy_files(files, dataset.folder, folder)
        with dataset.named_as_given():
            yield dataset


def _listed(name: str, folder: RemoteFile) -> list[StoredFile]:
    """The files of a data set in a store, which is in the layout of its name as far as their names tell."""
    if folder.is_web:
        raise UsageError(
            f"cannot copy the folder {folder}: a web server lists no folders; name one in a bucket, such as "
            "s3://bucket/folder"
        )
    files = list_files(folder)
    if not files:
        raise UsageError(f"{folder} does not exist, or nothing is in it; check the path")
    subfolders = {stored.name.partition("/")[0] for stored in files if "/" in stored.name}
    check_layout(name, folder, subfolders)
    if name == BAGGAGE and "train" not in subfolders:
        raise UsageError(
            f"{folder} is in a store and has no folder train, and images are simulated on this machine alone; name a "
            "folder here by --data FOLDER"
        )
    return files
