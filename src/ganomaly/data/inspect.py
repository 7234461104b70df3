"""A first look at a dataset: sizes, channels, bits, what cannot be opened; without decoding pixels."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import ImageHeader
from ganomaly.data.resources import usable_processors
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.errors import DataError, ImageError

_SMALL_SIZE, _LARGE_SIZE = 32, 64  # px, the sizes of the publication
_SMALL_IMAGES = 48  # px; smaller images would mostly be blown up at the larger size
_PIECE = 128  # images a thread looks at in one go


@dataclass(frozen=True)
class Inspection:
    """What is in a dataset, by the headers of its images.

    Attributes
    ----------
    sizes : mapping of (int, int) to int
        How many images there are of each height and width.
    channel_counts : mapping of int to int
        How many images have so many channels.
    bit_counts : mapping of int to int
        How many images have so many bits per sample, 8 or 16.
    examples : mapping of (int, int) to str
        Path of the first image with so many channels and bits.
    failures : mapping of int to str
        Index of each image that cannot be opened, and why.
    fingerprint : str
        SHA-256, in hexadecimal, over all images in their order: for files their names below the folder that was
        given and their sizes in bytes, for parquet and arrays their content. Times and places do not count.
    """

    sizes: Mapping[tuple[int, int], int]
    channel_counts: Mapping[int, int]
    bit_counts: Mapping[int, int]
    examples: Mapping[tuple[int, int], str]
    failures: Mapping[int, str]
    fingerprint: str

    @property
    def openable(self) -> NDArray[np.int64]:
        """Indices of the images whose headers can be read, `int64[n]`."""
        n_images = sum(self.sizes.values()) + len(self.failures)
        return np.setdiff1d(np.arange(n_images), list(self.failures))

    @property
    def median_height(self) -> int:
        """Median height in pixels, the lower one of two."""
        return _median((height, n) for (height, _), n in self.sizes.items())

    @property
    def median_width(self) -> int:
        """Median width in pixels, the lower one of two."""
        return _median((width, n) for (_, width), n in self.sizes.items())

    @property
    def median_shorter_side(self) -> int:
        """Median of the shorter sides in pixels, the lower one of two."""
        return _median((min(size), n) for size, n in self.sizes.items())


def inspect_images(dataset: ImageDataset) -> Inspection:
    """Look at the headers of all images.

    Raises
    ------
    DataError
        If none can be opened.
    """

    def look(piece: range) -> list[tuple[int, ImageHeader | str, bytes]]:
        return [(index, _header_or_failure(dataset, index), dataset.identity(index)) for index in piece]

    workers = usable_processors()
    pieces = (range(start, min(start + _PIECE, len(dataset))) for start in range(0, len(dataset), _PIECE))
    sizes: Counter[tuple[int, int]] = Counter()
    channels_and_bits: Counter[tuple[int, int]] = Counter()
    examples: dict[tuple[int, int], str] = {}
    failures: dict[int, str] = {}
    digest = hashlib.sha256()
    for piece in in_order(look, pieces, workers=workers, ahead=4 * workers):
        for index, header, identity in piece:
            digest.update(len(identity).to_bytes(8, "little") + identity)
            if isinstance(header, str):
                failures[index] = header
                continue
            sizes[header.height, header.width] += 1
            kind = header.channels, header.bits
            channels_and_bits[kind] += 1
            if kind not in examples:
                examples[kind] = dataset.records[index].path
    if not sizes:
        raise DataError(
            f"found 0 normal images that can be read among the {len(dataset)} in {dataset.name}; "
            f"the first: {failures[0]}"
        )
    return Inspection(
        sizes=sizes,
        channel_counts=_summed((channels, n) for (channels, _), n in channels_and_bits.items()),
        bit_counts=_summed((bits, n) for (_, bits), n in channels_and_bits.items()),
        examples=examples,
        failures=failures,
        fingerprint=digest.hexdigest(),
    )


def suggested_image_size(inspection: Inspection) -> int:
    """Choose between the sizes of the publication, 32 and 64 px: the smaller one for images up to 48 px."""
    return _SMALL_SIZE if inspection.median_shorter_side <= _SMALL_IMAGES else _LARGE_SIZE


def agreed_channels(inspection: Inspection, channels: int | None) -> int:
    """Return the channels of the network input: those asked for, or those that all images have.

    Raises
    ------
    DataError
        If none were asked for and the images differ.
    """
    if channels is not None:
        return channels
    counts = inspection.channel_counts
    if len(counts) == 1:
        return next(iter(counts))
    found = ", ".join(
        f"{counts[n]} with {n} {'channel' if n == 1 else 'channels'} ({_example(inspection, channels=n)})"
        for n in sorted(counts)
    )
    raise DataError(
        f"the images differ in their channels: {found}; --channels 1 converts all to gray, --channels 3 to RGB"
    )


def agreed_bits(inspection: Inspection) -> int:
    """Return the bits per sample, 8 or 16, that all images have.

    Raises
    ------
    DataError
        If some have 8 and some 16.
    """
    counts = inspection.bit_counts
    if len(counts) == 1:
        return next(iter(counts))
    found = ", ".join(f"{counts[n]} of {n} bit ({_example(inspection, bits=n)})" for n in sorted(counts))
    raise DataError(f"the images differ in their bits: {found}; convert all to 8 bit or all to 16 bit")


def _header_or_failure(dataset: ImageDataset, index: int) -> ImageHeader | str:
    try:
        with dataset.open(index) as image:
            return image.header
    except ImageError as error:
        return str(error)


def _example(inspection: Inspection, channels: int | None = None, bits: int | None = None) -> str:
    return next(path for kind, path in inspection.examples.items() if kind[0] == channels or kind[1] == bits)


def _summed(counts: Iterable[tuple[int, int]]) -> dict[int, int]:
    total: Counter[int] = Counter()
    for value, n in counts:
        total[value] += n
    return dict(total)


def _median(counts: Iterable[tuple[int, int]]) -> int:
    total = sorted(_summed(counts).items())
    middle = (sum(n for _, n in total) + 1) // 2
    seen = 0
    for value, n in total:
        seen += n
        if seen >= middle:
            return value
    raise ValueError("nothing to take the median of")
