"""From a folder, a list of paths, parquet or arrays to a dataset: which images are meant, and their labels.

A folder in MVTec AD layout has `train/good`, `test/good`, `test/<kind>` and `ground_truth/<kind>/<name>_mask.png`;
beside a mask, `<name>_without_defect.png` may show the same part without its defect.
In a folder with a subfolder for each kind, one of them must be named as in `NORMAL_NAMES`. Hidden files and those in
folders called `ground_truth` are not images.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ganomaly.data.readers.registry import image_suffixes
from ganomaly.data.sources.arrays import ImageArrays
from ganomaly.data.sources.dataset import ImageDataset, JoinedImages
from ganomaly.data.sources.files import ImageFile, ImageFiles
from ganomaly.data.sources.listing import MASK_FOLDER, FolderContent, list_folder, subfolders
from ganomaly.data.sources.path_list import PATH_LIST, read_path_list
from ganomaly.data.sources.remote import CopiedImages, LocalCopy, RemoteImages, copy_dataset, images_below
from ganomaly.errors import DataError, UsageError, package_needed
from ganomaly.remote import Location, RemoteFile, StoredFile, is_remote, location

if TYPE_CHECKING:
    from ganomaly.data.sources.parquet import ParquetImages

NORMAL_NAMES = ("good", "normal", "ok")
"""Names of folders and labels that mean normal, in any case."""

_NORMAL_LABELS = ("0", "False")
_LAYOUTS = (
    "a dataset folder in MVTec AD layout (test/good and test/<kind>), a folder with a subfolder for each kind, one "
    f"of them called {', '.join(NORMAL_NAMES[:-1])} or {NORMAL_NAMES[-1]}, or parquet with a column `label`"
)


def open_training_images(data: Any) -> ImageDataset:
    """Open the normal images to train on.

    Parameters
    ----------
    data : path, sequence of paths, ndarray, sequence of ndarray, ImageDataset, or LocalCopy
        A folder in MVTec AD layout gives `train/good`. Another folder gives all images in it and its subfolders;
        but if one of its subfolders is named as in `NORMAL_NAMES` and there are others, only that one. A folder
        of parquet gives the files with `train` in their path, if there are any. Labelled parquet gives the rows with
        a label named as in `NORMAL_NAMES`, or false, or 0 where the others are 1, if there are any; otherwise all
        rows. What is in a store is copied to this machine first, where no `LocalCopy` says that it is.
        Arrays are `uint8` or `uint16`, `[N, H, W]`, `[N, H, W, C]`, or a list of `[H, W]` and `[H, W, C]`.
        A dataset is given back as it is.

    Raises
    ------
    UsageError
        If a path does not exist, if `data` cannot be images, or if a folder further below holds normal images beside
        others.
    DataError
        If there are no images.
    """
    if isinstance(data, ImageDataset):
        return data
    source = one_remote(data)
    if source is not None:
        data = copy_training_images(source)
    if isinstance(data, LocalCopy):
        return CopiedImages(data, open_training_images)
    return _opened(data, _training_folder, _normal_rows)


def open_test_images(data: Any) -> ImageDataset:
    """Open labelled images to evaluate a model on.

    Parameters
    ----------
    data : path
        A folder in MVTec AD layout gives `test/*` with masks. Another folder needs a subfolder for each kind, one of
        them named as in `NORMAL_NAMES`. A folder of parquet gives the files with `test` in their path, if there are
        any; a label named as in `NORMAL_NAMES`, 0 or false is normal.

    Raises
    ------
    UsageError
        If the path does not exist.
    DataError
        If there are no images or no labels; the message says which layout is needed.
    """
    if isinstance(data, (list, tuple)) and len(data) == 1:
        data = data[0]
    source = one_remote(data)
    if source is not None:
        return CopiedImages(copy_dataset(source, "test"), open_test_images)
    if not isinstance(data, (str, Path)):
        raise DataError(f"images without labels cannot be used to evaluate; give {_LAYOUTS}")
    path = _existing(Path(data))
    if path.is_dir():
        return _test_folder(path)
    if path.suffix.lower() == ".parquet":
        return _labelled_rows(_parquet([path]))
    raise DataError(f"{path} is one file without a label; to evaluate, give {_LAYOUTS}")


def open_images(sources: Any, *, keep_content: bool = False) -> ImageDataset:
    """Open images to score, labelled or not, all of them and in the order given.

    Parameters
    ----------
    sources : path, sequence of paths, ndarray, or sequence of ndarray
        Any mix of files, folders (with their subfolders, in natural order), parquet, and text files `.txt` with a
        path in each line, relative to the text file; each may be in a store, as ``s3://bucket/folder``. Or arrays as
        in `open_training_images`. A missing file is an image that cannot be read.
    keep_content : bool
        Whether encoded images from stores are held until they are read a second time, in the same order.

    Raises
    ------
    UsageError
        If a folder or parquet file does not exist, or if `sources` cannot be images.
    DataError
        If there are no images.
    """
    items = [sources] if isinstance(sources, (str, Path, RemoteFile)) else sources
    if isinstance(items, (list, tuple)) and any(_is_elsewhere(item) for item in items):
        return _opened_anywhere([location(item) for item in _with_lists_read(items)], keep_content)
    return _opened(sources, _whole_folder, lambda images: images)


_FolderOpener = Callable[[Path], ImageDataset]
_RowChoice = Callable[["ParquetImages"], "ParquetImages"]


def _opened(data: Any, open_folder: _FolderOpener, choose_rows: _RowChoice) -> ImageDataset:
    if isinstance(data, np.ndarray) and data.dtype.kind not in "OU":
        return ImageArrays(data)
    if isinstance(data, (str, Path)):
        return _opened_path(_existing(Path(data)), open_folder, choose_rows)
    if not isinstance(data, Iterable) or isinstance(data, bytes):
        raise UsageError(f"images are given as paths or as arrays, not as {type(data).__name__}")
    items = list(data)
    if not items:
        raise DataError("no images: the list is empty; give at least one path or array")
    if all(isinstance(item, (str, Path)) for item in items):
        return _opened_paths([Path(item) for item in items], open_folder, choose_rows)
    if any(isinstance(item, (str, Path)) for item in items):
        raise UsageError("paths and arrays are mixed in one list of images; give one or the other")
    return ImageArrays(items)


def _opened_path(path: Path, open_folder: _FolderOpener, choose_rows: _RowChoice) -> ImageDataset:
    if path.is_dir():
        return open_folder(path)
    if path.suffix.lower() == ".parquet":
        return choose_rows(_parquet([path]))
    return ImageFiles([ImageFile(path, path.name)], str(path))


def _opened_paths(paths: Sequence[Path], open_folder: _FolderOpener, choose_rows: _RowChoice) -> ImageDataset:
    parts: list[ImageDataset] = []
    for is_single, run in groupby(paths, key=_is_image_file):
        if is_single:
            files = [ImageFile(path, path.name) for path in run]
            parts.append(ImageFiles(files, _in_short([str(file.path) for file in files])))
        else:
            parts += [_opened_path(_existing(path), open_folder, choose_rows) for path in run]
    return parts[0] if len(parts) == 1 else JoinedImages(parts, _in_short([part.name for part in parts]))


def _is_image_file(path: Path) -> bool:
    """Whether the path is a single image, or would be one if it were there."""
    return path.suffix.lower() in image_suffixes() and not path.is_dir()


def _in_short(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"


def _why_missing(path: Path) -> str:
    file, _, number = str(path).rpartition("#")
    if number.isdigit() and Path(file).is_file():
        return f"{path} names one of several images in {file}; give the whole file"
    return f"{path} does not exist; check the path"


def _existing(path: Path) -> Path:
    """The path, or `UsageError` if there is nothing at it."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise UsageError(_why_missing(path)) from None
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    return path


# --- stores ----------------------------------------------------------------------------------------------


def copy_training_images(source: RemoteFile, check: Callable[[], None] = lambda: None) -> LocalCopy:
    """Copy what `open_training_images` opens of a dataset in a store, as `copy_dataset` does."""
    return copy_dataset(source, "train", check)


def one_remote(data: Any) -> RemoteFile | None:
    """The one source that `data` names, if it is in a store."""
    if isinstance(data, (list, tuple)) and len(data) == 1:
        data = data[0]
    source = location(data) if is_remote(data) else None
    return source if isinstance(source, RemoteFile) else None


def _is_elsewhere(item: Any) -> bool:
    """Whether an item is in a store, or a list of paths, which may be."""
    return is_remote(item) or (isinstance(item, (str, Path)) and Path(item).suffix.lower() == PATH_LIST)


def _with_lists_read(items: Iterable[Any]) -> list[Any]:
    """The items, with the paths that lists name in place of the lists."""
    paths: list[Any] = []
    for item in items:
        if not isinstance(item, (str, Path, RemoteFile)):
            raise UsageError("paths and arrays are mixed in one list of images; give one or the other")
        source = location(item)
        paths += read_path_list(source) if source.suffix.lower() == PATH_LIST else [source]
    return paths


def _opened_anywhere(paths: Sequence[Location], keep_content: bool) -> ImageDataset:
    """Open paths here and in stores, in the order given."""
    parts: list[ImageDataset] = []
    for kind, run in groupby(paths, key=_kind_of_location):
        group = list(run)
        if kind == "local":
            parts.append(open_images(group))
            continue
        remote = [source for source in group if isinstance(source, RemoteFile)]
        if kind == "image":
            files = [StoredFile(source, source.name, -1, 0) for source in remote]
            name = _in_short([str(source) for source in remote])
            parts.append(RemoteImages(files, name, keep_content=keep_content))
        elif kind == "parquet":
            parts.append(_parquet(remote))
        else:
            parts += [_remote_folder(source, keep_content) for source in remote]
    return parts[0] if len(parts) == 1 else JoinedImages(parts, _in_short([part.name for part in parts]))


def _kind_of_location(source: Location) -> str:
    if not isinstance(source, RemoteFile):
        return "local"
    suffix = source.suffix.lower()
    return "image" if suffix in image_suffixes() else "parquet" if suffix == ".parquet" else "folder"


def _remote_folder(folder: RemoteFile, keep_content: bool) -> ImageDataset:
    images, parquet = images_below(folder)
    if images:
        return RemoteImages(images, str(folder), keep_content=keep_content)
    if not parquet:
        raise DataError(f"no images in {folder}: expected {', '.join(image_suffixes())} and .parquet")
    return _parquet(parquet, f"{folder} ({len(parquet)} parquet files)")


# --- folders ---------------------------------------------------------------------------------------------


def _training_folder(root: Path) -> ImageDataset:
    base = root / "train" if (root / "train").is_dir() else root
    kinds = subfolders(base)
    normal = [kind for kind in kinds if _is_normal(kind.name)]
    others = [kind.name for kind in kinds if kind not in normal]
    if normal and (others or base != root):
        contents = {kind: list_folder(kind) for kind in normal}
        files = [
            ImageFile(path, _label(path, root), kind.name, is_anomalous=False)
            for kind, content in contents.items()
            for path in content.images
        ]
        if not files:
            raise _nothing_in(normal[0], contents[normal[0]])
        name = " and ".join(str(kind) for kind in normal)
        name = f"{name} (without {', '.join(others)})" if others else name
        return ImageFiles(files, name, _left_out(contents.values()))
    _check_is_one_dataset(root, kinds)
    content = list_folder(base)
    if content.images:
        _check_all_may_be_normal(root, {path.parent for path in content.images})
        return _images_of(content, root, str(base))
    return _normal_rows(_parquet_of_split(root, content, "train"))


def _test_folder(root: Path) -> ImageDataset:
    base = root / "test" if (root / "test").is_dir() else root
    masks = next((f for f in (root / MASK_FOLDER, root.parent / MASK_FOLDER) if f.is_dir()), None)
    kinds = subfolders(base)
    # where there are masks, the other folders are kinds of anomalies, even if there is no folder of normal images
    if any(_is_normal(kind.name) for kind in kinds) or (
        kinds and base != root and masks == root / MASK_FOLDER
    ):
        contents = {kind: list_folder(kind) for kind in kinds}
        files = [
            ImageFile(
                path,
                _label(path, root),
                kind.name,
                is_anomalous=not _is_normal(kind.name),
                mask=None if masks is None or _is_normal(kind.name) else _mask(path, kind, masks),
                without_defect=None
                if masks is None or _is_normal(kind.name)
                else _without(path, kind, masks),
            )
            for kind, content in contents.items()
            for path in content.images
        ]
        if files:
            return ImageFiles(files, str(base), _left_out(contents.values()))
    _check_is_one_dataset(root, kinds)
    content = list_folder(base)
    if content.images:
        if base != root and kinds:
            raise DataError(
                f"{base} has no normal images to compare with: put some into {base / 'good'}, beside "
                f"{' and '.join(kind.name for kind in kinds[:3])}"
            )
        raise DataError(f"{root} has images, but no labels to evaluate with; give {_LAYOUTS}")
    return _labelled_rows(_parquet_of_split(root, content, "test"))


def _whole_folder(root: Path) -> ImageDataset:
    content = list_folder(root)
    if content.images:
        return _images_of(content, root, str(root))
    return _parquet_of_split(root, content, "")


def _images_of(content: FolderContent, root: Path, name: str) -> ImageFiles:
    files = [ImageFile(path, _label(path, root)) for path in content.images]
    return ImageFiles(files, name, content.left_out)


def _left_out(contents: Iterable[FolderContent]) -> Counter[str]:
    return sum((content.left_out for content in contents), Counter[str]())


def _is_normal(name: str) -> bool:
    return name.casefold() in NORMAL_NAMES


def _label(path: Path, root: Path) -> str:
    return path.relative_to(root).as_posix()


def _mask(image: Path, kind: Path, masks: Path) -> Path | None:
    """The mask file of an anomalous image; None if there is none."""
    folder = masks / image.parent.relative_to(kind.parent)
    candidates = (folder / f"{image.stem}_mask.png", folder / f"{image.stem}.png")
    return next((path for path in candidates if path.exists()), None)


def _without(image: Path, kind: Path, masks: Path) -> Path | None:
    """The file of an anomalous image without its defect; None if there is none."""
    path = masks / image.parent.relative_to(kind.parent) / f"{image.stem}_without_defect.png"
    return path if path.is_file() else None


def _check_is_one_dataset(root: Path, kinds: Sequence[Path]) -> None:
    """Raise `UsageError` for a folder of several datasets, whose anomalous images would count as normal."""
    datasets = [kind.name for kind in kinds if any((kind / "train" / name).is_dir() for name in NORMAL_NAMES)]
    if datasets:
        raise UsageError(
            f"{root} is a folder of datasets ({', '.join(datasets)}); name one of them: {root / datasets[0]}"
        )


def _check_all_may_be_normal(root: Path, folders: Iterable[Path]) -> None:
    """Raise `UsageError` where a folder of normal images has others beside it, as `crack` beside `good`."""
    relative = [folder.relative_to(root) for folder in folders]
    with_parents = {part for folder in relative for part in (folder, *folder.parents) if part.name}
    for normal in sorted(with_parents):
        if not _is_normal(normal.name) or any(_is_normal(parent.name) for parent in normal.parents):
            continue  # all images below a normal folder are normal
        others = {
            part.name for part in with_parents if part.parent == normal.parent and not _is_normal(part.name)
        }
        if others:
            raise UsageError(
                f"{root / normal.parent} holds {normal.name} and {', '.join(sorted(others))[:200]}, and all of it "
                f"would count as normal; name the folder to learn from: {root / normal}"
            )


def _nothing_in(folder: Path, content: FolderContent) -> DataError:
    others = f"; {content.others} files with other endings are there" if content.others else ""
    return DataError(
        f"no images in {folder} and its subfolders: expected {', '.join(image_suffixes())} and .parquet{others}"
    )


# --- parquet ---------------------------------------------------------------------------------------------


def _parquet(files: Sequence[Location], name: str | None = None) -> "ParquetImages":
    with package_needed("parquet"):
        from ganomaly.data.sources.parquet import ParquetImages
    return ParquetImages(files, name)


def _parquet_of_split(root: Path, content: FolderContent, split: str) -> "ParquetImages":
    """Open the parquet files whose path names the split; all of them if none does."""
    if not content.parquet:
        raise _nothing_in(root, content)
    split_files = [path for path in content.parquet if split in _label(path, root).casefold()]
    files = split_files or content.parquet
    return _parquet(files, str(files[0]) if len(files) == 1 else f"{root} ({len(files)} parquet files)")


def _normal_rows(images: "ParquetImages") -> "ParquetImages":
    normal = [kind for kind in images.kinds if _is_normal(kind)]
    if not normal and (images.label_is_boolean or set(images.kinds) <= {"0", "1"}):
        normal = [kind for kind in images.kinds if kind in _NORMAL_LABELS]
    return images.only(normal) if normal else images


def _labelled_rows(images: "ParquetImages") -> "ParquetImages":
    kinds = images.kinds
    normal = [kind for kind in kinds if _is_normal(kind)] or [
        kind for kind in kinds if kind in _NORMAL_LABELS
    ]
    if not kinds:
        raise DataError(f"{images.name} has no labels to evaluate with; give {_LAYOUTS}")
    if not normal:
        raise DataError(
            f"no label of {images.name} means normal: found {', '.join(kinds)[:200]}; "
            f"call one of them {' or '.join(NORMAL_NAMES)}, or give it the number 0"
        )
    return images.labelled(normal)
