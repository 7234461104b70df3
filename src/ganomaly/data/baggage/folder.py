"""A whole data set of simulated baggage on disk, in the layout of MVTec AD."""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from PIL import Image

from ganomaly.config import SEED
from ganomaly.data.baggage.bag import (
    SimulatedBag,
    normal_patches,
    packed_bag,
    scanned_bag,
    threat_patch,
)
from ganomaly.data.baggage.packing import THREAT_KINDS
from ganomaly.errors import OutputError, UsageError
from ganomaly.locks import locked_file

Kind = Literal["patches", "bags", "whole weapons"]

_UNFINISHED = ".unfinished"
_PATCH_SIZE = 64  # pixels, as in the publication
_COARSE_BAG = 100, 143  # pixels; at 4.5 mm each, a patch holds a whole firearm
_PATCHES_PER_NORMAL_BAG = 9
_PATCHES_PER_THREAT_BAG = 4

_README_FILE = "README.txt"
_README = """\
Simulated baggage
=================

These images are SIMULATED. No bag was packed, no scanner was used, nothing was measured.
They were drawn by the Python package ganomaly to look like dual-energy X-ray images of luggage, so that
anomaly detection can be tried where real images may not be shown. A result on them says nothing about
detection at a real checkpoint.

{contents}, seed {seed}
  train/good                   {n_train} without a threat
  test/good                    {n_test_normal} without a threat, of other bags
  test/<threat>                {n_test_per_threat} of each threat ({threats}), of other bags again
  ground_truth/<threat>        where the threat is: <name>_mask.png, white is threat{without}

Orange is organic, green is mixed or light metal, blue is metal, black lets nothing pass.
"""
_WITHOUT = """
                               the same scan without the threat: <name>_without_defect.png"""


def write_simulated_baggage(
    folder: str | Path,
    *,
    kind: Kind = "patches",
    n_train: int,
    n_test_normal: int,
    n_test_per_threat: int,
    seed: int = SEED,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Write a dataset of simulated baggage: `train/good`, `test/good`, `test/<threat>`, `ground_truth/<threat>`.

    For whole bags, `ground_truth` also has the same scan without the threat, for an audit.

    The same arguments write the same bytes. No bag is in two of these folders, and the number of images in one of
    them does not change the others. The folder appears complete or not at all; one that the same arguments wrote is
    left as it is.

    Parameters
    ----------
    folder : str or Path
        New or empty, or written with the same arguments before; missing parents are made.
    kind : {"patches", "bags", "whole weapons"}
        Windows of 64 × 64 pixels, several cut from each bag, as in the publication's UBA; whole bags of about
        224 × 320; or windows of 64 × 64 at less than half the resolution, as in the publication's FFOB, so that each
        holds a whole firearm, the only threat there.
    n_train, n_test_normal : int
        Images without a threat.
    n_test_per_threat : int
        Images of each threat, each with a mask.
    seed : int
        Fixes every image, ≥ 0.
    progress : callable, optional
        Called after each image with the number drawn so far.

    Raises
    ------
    UsageError
        If the folder has other content, or a number or the kind makes no sense.
    OutputError
        If the folder cannot be written.
    """
    folder = Path(folder)
    counts = {"n_train": n_train, "n_test_normal": n_test_normal, "n_test_per_threat": n_test_per_threat}
    _check_arguments(kind, {**counts, "seed": seed})
    parts: list[tuple[str, str | None, int]] = [
        ("train/good", None, n_train),
        ("test/good", None, n_test_normal),
    ]
    threats = ("gun",) if kind == "whole weapons" else THREAT_KINDS
    parts += [(f"test/{threat}", threat, n_test_per_threat) for threat in threats]
    draw, contents = _DRAWINGS[kind]
    readme = _readme_text(kind, contents, threats, seed, counts)

    with _filled_whole(folder, readme) as unfinished:
        if unfinished is None:
            return
        written = 0
        for number, (part, threat, count) in enumerate(parts):
            for i, bag in enumerate(draw(np.random.SeedSequence(seed, spawn_key=(number,)), threat, count)):
                _write(unfinished, part, f"{i:05d}", bag)
                written += 1
                if progress is not None:
                    progress(written)
        (unfinished / _README_FILE).write_text(readme, encoding="utf-8")


def _readme_text(
    kind: Kind, contents: str, threats: Sequence[str], seed: int, counts: Mapping[str, int]
) -> str:
    without = _WITHOUT if kind == "bags" else ""
    return _README.format(contents=contents, without=without, seed=seed, threats=", ".join(threats), **counts)


def _check_arguments(kind: str, numbers: Mapping[str, int]) -> None:
    if kind not in get_args(Kind):
        raise UsageError(f"unknown kind {kind!r}; known are {', '.join(get_args(Kind))}")
    for name, number in numbers.items():
        if number < 0:
            raise UsageError(f"{name} is a whole number from 0 up, got {number}")


def _bags(seeds: np.random.SeedSequence, threat: str | None, count: int) -> Iterator[SimulatedBag]:
    for seed in seeds.spawn(count):
        bag_seed, *others = seed.spawn(3)
        threat_rng, scan_rng = map(np.random.default_rng, others)
        yield scanned_bag(packed_bag(bag_seed), threat, threat_rng, scan_rng)


def _patches(
    bag_size: tuple[int | None, int | None],
    jitter: float,
    seeds: np.random.SeedSequence,
    threat: str | None,
    count: int,
) -> Iterator[SimulatedBag]:
    while count > 0:
        bag_seed, *others = seeds.spawn(1)[0].spawn(3)
        bag = packed_bag(bag_seed, *bag_size)
        threat_rng, scan_rng = map(np.random.default_rng, others)
        if threat is None:
            cut = normal_patches(bag, _PATCHES_PER_NORMAL_BAG, _PATCH_SIZE, scan_rng)
        else:
            number = min(_PATCHES_PER_THREAT_BAG, count)
            cut = [
                threat_patch(bag, threat, _PATCH_SIZE, threat_rng, scan_rng, jitter=jitter)
                for _ in range(number)
            ]
        yield from cut[:count]
        count -= len(cut)


_Draw = Callable[[np.random.SeedSequence, str | None, int], Iterator[SimulatedBag]]
_DRAWINGS: dict[Kind, tuple[_Draw, str]] = {
    "patches": (partial(_patches, (None, None), 1 / 6), f"{_PATCH_SIZE} × {_PATCH_SIZE} patches of bags"),
    "bags": (_bags, "Whole bags"),
    "whole weapons": (
        partial(_patches, _COARSE_BAG, 0),
        f"{_PATCH_SIZE} × {_PATCH_SIZE} patches of bags, so coarse that each holds a whole firearm",
    ),
}


def _write(folder: Path, part: str, stem: str, bag: SimulatedBag) -> None:
    path = folder / part / f"{stem}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(bag.image).save(path)
    if bag.threat is not None:
        mask = folder / "ground_truth" / bag.threat / f"{stem}_mask.png"
        mask.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(bag.threat_mask.astype(np.uint8) * 255).save(mask)
        if bag.without_threat is not None:
            Image.fromarray(bag.without_threat).save(mask.with_name(f"{stem}_without_defect.png"))


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None


@contextmanager
def _filled_whole(folder: Path, readme: str) -> Iterator[Path | None]:
    """Yield a hidden folder that takes the place of a new or empty one when the block ends well.

    None where the folder is complete, which its README says: it is written last.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked_file(folder, "the simulation of baggage"):
            if _text(folder / _README_FILE) == readme:
                yield None
                return
            existing = next(folder.iterdir(), None)
            if existing is not None:
                raise UsageError(
                    f"{folder} is not empty (it has {existing.name}); name a new or an empty folder"
                )
            unfinished = folder.with_name(f".{folder.name}{_UNFINISHED}")
            shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed: the lock is ours
            unfinished.mkdir()
            try:
                yield unfinished
                folder.rmdir()
                unfinished.rename(folder)
            finally:
                shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise OutputError(
            f"cannot write to {folder}: {error.strerror or error}; nothing was left half-written"
        ) from error
