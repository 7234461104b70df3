"""OpenEXR, by the package OpenEXR: gray and RGB of floating point, which are physical values.

Which of them are black and white is a matter of the model's, see `ganomaly.data.value_range`.
"""

import re
from typing import IO, Any

import numpy as np

from ganomaly.data.large_images import check_memory
from ganomaly.data.readers.encoded_image import EncodedImage, FormatFamily, ImageHeader, Pixels
from ganomaly.data.readers.physical_values import NOMINAL_RANGE, PhysicalValues
from ganomaly.errors import ImageError

_ALPHA = "A"
_RGB = ("R", "G", "B")


class OpenEXRImage(EncodedImage):
    """An OpenEXR file whose header has been read and whose pixels have not been decoded.

    Parameters
    ----------
    file : binary file
        At its start; read again when decoding, so it must stay open until then.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        exr = _opened(file, header_only=True)
        if len(exr.parts) != 1:
            raise ImageError(
                f"holds {len(exr.parts)} parts where one image is expected; save the one that is meant"
            )
        header = exr.header()
        self._channels = _channels(header["channels"])
        (left, top), (right, bottom) = (np.asarray(corner, dtype=int) for corner in header["dataWindow"])
        self.header = ImageHeader(
            int(bottom - top) + 1, int(right - left) + 1, len(self._channels), bits=16, has_values=True
        ).checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode at full size, as if the values were in `NOMINAL_RANGE`."""
        return self.decode_values().in_range(NOMINAL_RANGE)

    def decode_values(self) -> PhysicalValues:
        """Decode the values."""
        header = self.header
        check_memory(6 * header.n_bytes)
        decoded = _opened(self._file, header_only=False)
        if len(decoded.parts) != 1:  # so OpenEXR says that a part could not be decoded
            raise ImageError("is truncated or damaged (some of its lines cannot be decoded)")
        by_name = decoded.channels()
        planes = [np.asarray(by_name[name].pixels, dtype=np.float32) for name in self._channels]
        if any(plane.shape != (header.height, header.width) for plane in planes):
            raise ImageError("is damaged: its pixels are not of the size that its header promises")
        return PhysicalValues(np.stack(planes, axis=-1))


def _opened(file: IO[bytes], *, header_only: bool) -> Any:
    try:
        import OpenEXR
    except ModuleNotFoundError:
        raise ImageError("is an OpenEXR file, which OpenEXR reads; pip install 'ganomaly[exr]'") from None
    file.seek(0)
    # one thread, since several images are decoded at once
    return OpenEXR.File(file, separate_channels=True, header_only=header_only, num_threads=0)


def _channels(described: list[Any]) -> tuple[str, ...]:
    """Names of the channels in the order of an image: R, G and B, or the only one; transparency is dropped."""
    names = {channel.name for channel in described} - {_ALPHA}
    if any((channel.xSampling, channel.ySampling) != (1, 1) for channel in described):
        raise ImageError("has channels of half the size, which are not read; save it as RGB")
    if names == set(_RGB):
        return _RGB
    if len(names) == 1:
        return tuple(names)
    raise ImageError(f"has the channels {', '.join(sorted(names))[:80]}; save it as RGB, or one of them")


OPENEXR = FormatFamily(
    names=("OpenEXR",),
    suffixes=(".exr",),
    signature=re.compile(rb"v/1\x01"),
    read_header=OpenEXRImage,
)
