"""The format families that images are read in: those of this package, and those that a program adds."""

from dataclasses import dataclass

from ganomaly.data.readers.dicom import DICOM, WITHOUT_PREAMBLE
from ganomaly.data.readers.encoded_image import FormatFamily
from ganomaly.data.readers.jpeg_2000 import JPEG_2000
from ganomaly.data.readers.jpeg_xl import JPEG_XL
from ganomaly.data.readers.openexr import OPENEXR
from ganomaly.data.readers.pillow import PILLOW
from ganomaly.data.readers.tiff import TIFF
from ganomaly.data.readers.video import VIDEO
from ganomaly.errors import UsageError


@dataclass
class _Registry:
    families: tuple[FormatFamily, ...]


_REGISTRY = _Registry((PILLOW, TIFF, JPEG_2000, JPEG_XL, OPENEXR, VIDEO, DICOM, WITHOUT_PREAMBLE))
"""Another family of formats of this package is another file beside this one, and its name here."""


def register_reader(family: FormatFamily) -> None:
    """Read images in further file formats, in this process.

    Files with the family's suffixes are then taken from folders, and files that begin with its signature are read by
    it, wherever images are read. A family whose names are those of an earlier one replaces it; otherwise its
    signature is tried before those of earlier families.

    Parameters
    ----------
    family : FormatFamily
        Names, suffixes, signature and the function that reads a header.

    Raises
    ------
    UsageError
        If the family has no name, or a suffix that is not in lower case with a dot.

    Examples
    --------
    >>> import re
    >>> import numpy as np
    >>> from ganomaly.data import EncodedImage, FormatFamily, ImageHeader, register_reader
    >>> class RawImage(EncodedImage):  # doctest: +SKIP
    ...     def __init__(self, file):
    ...         start = np.frombuffer(file.read(12), "<u4")  # signature, height, width
    ...         self._file = file
    ...         self.header = ImageHeader(int(start[1]), int(start[2]), channels=1, bits=16).checked()
    ...
    ...     def decode(self, smallest_side=None):
    ...         pixels = np.frombuffer(self._file.read(self.header.n_bytes), "<u2")
    ...         return pixels.reshape(self.header.height, self.header.width, 1).copy()
    >>> register_reader(FormatFamily(("RAW",), (".raw",), re.compile(rb"RAW0"), RawImage))  # doctest: +SKIP
    """
    if not family.names:
        raise UsageError("a format family needs a name; give it one in `names`")
    for suffix in family.suffixes:
        if suffix != suffix.lower() or not suffix.startswith("."):
            raise UsageError(f"the suffix {suffix!r} is not in lower case with a dot; write it as '.raw'")
    others = tuple(each for each in _REGISTRY.families if each.names != family.names)
    _REGISTRY.families = (*others, family)


def format_families() -> tuple[FormatFamily, ...]:
    """The families there are, the earliest first."""
    return _REGISTRY.families


def image_suffixes() -> tuple[str, ...]:
    """Endings, in lower case, of the files that are taken from folders."""
    return tuple(suffix for family in _REGISTRY.families for suffix in family.suffixes)


def several_images_suffixes() -> tuple[str, ...]:
    """Those of files that may hold several images, each of its own."""
    several = (family for family in _REGISTRY.families if family.count_images is not None)
    return tuple(suffix for family in several for suffix in family.suffixes)
