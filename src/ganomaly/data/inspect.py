"""What the headers say of a dataset (sizes, channels, bits, what cannot be opened), and what follows from it."""

from array import array
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ganomaly.data.colours import ColourSample, sample_colours
from ganomaly.data.prefetch import in_order
from ganomaly.data.readers.encoded_image import ImageHeader
from ganomaly.data.resources import usable_processors
from ganomaly.data.sources.dataset import ImageDataset
from ganomaly.errors import DataError, ImageError, UsageError

_SMALL_SIZE, _LARGE_SIZE = 32, 64  # px, the sizes of the publication
_SMALL_IMAGES = 48  # px; smaller images would mostly be enlarged at the larger size
_CHUNK = 128  # images whose headers a thread reads in one go
_GRAY, _RGB = 1, 3  # channels


@dataclass(frozen=True)
class Inspection:
    """What a dataset holds, by the headers of its images and a sample of its colours.

    Attributes
    ----------
    sizes : mapping of (int, int) to int
        Number of images by height and width.
    channel_counts : mapping of int to int
        Number of images by channels.
    bit_counts : mapping of int to int
        Number of images by bits per sample, 8 or 16.
    colours : ColourSample
        How many of the images with three channels are gray.
    examples : mapping of (int, int) to str
        Path of the first image by channels and bits.
    failures : mapping of int to str
        Index of each image that cannot be opened, and why.
    examples_by_values : mapping of bool to str
        Path of the first image with physical values, and of the first without.
    groups : mapping of int to int
        Group of each image that has one, as all images of a patient; groups are numbered as they come.
    """

    sizes: Mapping[tuple[int, int], int]
    channel_counts: Mapping[int, int]
    bit_counts: Mapping[int, int]
    colours: ColourSample
    examples: Mapping[tuple[int, int], str]
    failures: Mapping[int, str]
    examples_by_values: Mapping[bool, str] = field(default_factory=dict)
    groups: Mapping[int, int] = field(default_factory=dict)

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
    """Read the headers of all images; where they have three channels, decode a sample to see whether they are gray.

    Raises
    ------
    DataError
        If none can be opened.
    """

    def read_headers(chunk: range) -> list[tuple[int, ImageHeader | str]]:
        return [(index, _header_or_failure(dataset, index)) for index in chunk]

    workers = usable_processors()
    chunks = (range(start, min(start + _CHUNK, len(dataset))) for start in range(0, len(dataset), _CHUNK))
    sizes: Counter[tuple[int, int]] = Counter()
    channels_and_bits: Counter[tuple[int, int]] = Counter()
    rgb_indices = array("q")  # a list of millions would take four times as much memory
    examples: dict[tuple[int, int], str] = {}
    failures: dict[int, str] = {}
    examples_by_values: dict[bool, str] = {}
    groups, group_numbers = dict[int, int](), dict[bytes, int]()
    for chunk in in_order(read_headers, chunks, workers=workers, ahead=4 * workers):
        for index, header in chunk:
            if isinstance(header, str):
                failures[index] = header
                continue
            sizes[header.height, header.width] += 1
            channels_and_bits[header.channels, header.bits] += 1
            if header.channels == _RGB:
                rgb_indices.append(index)
            if (header.channels, header.bits) not in examples:
                examples[header.channels, header.bits] = dataset.records[index].path
            if header.has_values not in examples_by_values:
                examples_by_values[header.has_values] = dataset.records[index].path
            if header.group is not None:
                groups[index] = group_numbers.setdefault(header.group, len(group_numbers))
    if not sizes:
        raise DataError(
            f"found 0 normal images that can be read among the {len(dataset)} in {dataset.name}; "
            f"the first: {failures[0]}"
        )
    channel_counts = _summed((channels, n) for (channels, _), n in channels_and_bits.items())
    # among gray images each coloured one is to be counted, so that the number converted can be said
    colours = sample_colours(dataset, rgb_indices, stop_early=_GRAY not in channel_counts)
    return Inspection(
        sizes=sizes,
        channel_counts=channel_counts,
        bit_counts=_summed((bits, n) for (_, bits), n in channels_and_bits.items()),
        colours=colours,
        examples=examples,
        failures=failures,
        examples_by_values=examples_by_values,
        groups=groups,
    )


def suggested_image_size(inspection: Inspection) -> int:
    """Choose between the sizes of the publication, 32 and 64 px: the smaller one for images up to 48 px."""
    return _SMALL_SIZE if inspection.median_shorter_side <= _SMALL_IMAGES else _LARGE_SIZE


@dataclass(frozen=True)
class ChannelChoice:
    """The channels of the network input, and how the images come to them.

    Attributes
    ----------
    channels : int
        1 is gray, 3 is RGB.
    description : str
        As "gray", "gray (19 saved as RGB)", "colour (3 gray images become RGB)".
    """

    channels: int
    description: str


def choose_channels(inspection: Inspection, asked: int | None) -> ChannelChoice:
    """Choose the channels of the network input: those asked for, else those of the majority of the images.

    Gray images that were saved as RGB count as gray; where there are as many gray as coloured images, gray becomes
    RGB, which loses nothing.

    Parameters
    ----------
    inspection : Inspection
        What the images are.
    asked : int or None
        The number of channels that the user asked for.

    Raises
    ------
    UsageError
        If no image can be converted to the channels asked for.
    DataError
        If none were asked for, and images with two or four channels are among others.
    """
    counts = inspection.channel_counts
    if asked is not None:
        if asked not in counts and not (asked in (_GRAY, _RGB) and counts.keys() & {_GRAY, _RGB}):
            raise UsageError(
                f"no image has the {asked} channels asked for or can be converted to them: found "
                f"{_channels_in_words(inspection)}, and only gray and RGB are converted to each other; leave "
                "--channels out to take the images as they are"
            )
        channels = asked
    elif counts.keys() <= {_GRAY, _RGB}:
        n_gray = counts.get(_GRAY, 0) + inspection.colours.n_gray
        channels = _GRAY if n_gray > sum(counts.values()) - n_gray else _RGB
    elif len(counts) == 1:
        channels = next(iter(counts))
    else:
        raise DataError(
            f"the images differ in their channels: {_channels_in_words(inspection)}; only gray and RGB are converted "
            "to each other, so give images of one kind"
        )
    return ChannelChoice(channels, _channel_description(inspection, channels))


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
    described = ", ".join(f"{counts[n]} of {n} bit ({_example(inspection, bits=n)})" for n in sorted(counts))
    raise DataError(f"the images differ in their bits: {described}; convert all to 8 bit or all to 16 bit")


def have_values(inspection: Inspection) -> bool:
    """Whether the images hold physical values, as Hounsfield units, and not pixels.

    Raises
    ------
    DataError
        If some do and some do not.
    """
    examples = inspection.examples_by_values
    if len(examples) > 1:
        raise DataError(
            f"the images differ: some hold physical values ({examples[True]}) and some pixels ({examples[False]}), "
            "and no range fits both; give images of one kind"
        )
    return True in examples


def _channel_description(inspection: Inspection, channels: int) -> str:
    """What the images are after conversion, in words, and how many are converted."""
    n_gray, colours = inspection.channel_counts.get(_GRAY, 0), inspection.colours
    if channels == _RGB:
        return f"colour ({_become(n_gray, 'gray', 'RGB')})" if n_gray else "colour"
    if channels != _GRAY:
        return f"{channels}-channel"
    about = "about " if colours.is_estimate else ""
    notes = []
    if colours.n_gray:
        notes.append(f"{about}{colours.n_gray:,} saved as RGB")
    if colours.n_gray < colours.n_rgb:
        notes.append(about + _become(colours.n_rgb - colours.n_gray, "colour", "gray"))
    if notes and about:
        notes.append(f"from a sample of {colours.n_sampled}")
    return f"gray ({', '.join(notes)})" if notes else "gray"


def _become(n: int, before: str, after: str) -> str:
    return f"{n:,} {before} image{' becomes' if n == 1 else 's become'} {after}"


def _channels_in_words(inspection: Inspection) -> str:
    counts = inspection.channel_counts
    return ", ".join(
        f"{counts[n]} with {n} {'channel' if n == 1 else 'channels'} ({_example(inspection, channels=n)})"
        for n in sorted(counts)
    )


def _header_or_failure(dataset: ImageDataset, index: int) -> ImageHeader | str:
    try:
        with dataset.open(index) as image:
            return image.header
    except ImageError as error:
        return str(error)


def _example(inspection: Inspection, channels: int | None = None, bits: int | None = None) -> str:
    return next(path for key, path in inspection.examples.items() if key[0] == channels or key[1] == bits)


def _summed(counts: Iterable[tuple[int, int]]) -> dict[int, int]:
    totals: Counter[int] = Counter()
    for value, n in counts:
        totals[value] += n
    return dict(totals)


def _median(counts: Iterable[tuple[int, int]]) -> int:
    totals = sorted(_summed(counts).items())
    cumulative = np.cumsum([n for _, n in totals])
    middle = (cumulative[-1] + 1) // 2
    return totals[int(np.searchsorted(cumulative, middle))][0]
