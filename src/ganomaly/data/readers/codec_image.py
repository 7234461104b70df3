"""Images whose header is read here and whose pixels a codec of imagecodecs decodes in one go."""

from collections.abc import Callable
from typing import IO, Any

import numpy as np

from ganomaly.data.large_images import check_memory
from ganomaly.data.readers.encoded_image import EncodedImage, ImageHeader, Pixels
from ganomaly.errors import ImageError


class CodecImage(EncodedImage):
    """An image that has not been decoded.

    Parameters
    ----------
    file : binary file
        Read again when decoding, so it must stay open until then.
    header : ImageHeader
        Of the decoded image; further channels, as alpha, are dropped.
    codec : module
        Of imagecodecs, as `imagecodecs.JPEGXL`.
    decode : callable
        Takes the content of the file and gives `[H, W]` or `[H, W, C]`.
    name : str
        What people call the format.
    """

    def __init__(
        self, file: IO[bytes], header: ImageHeader, codec: Any, decode: Callable[[bytes], Any], name: str
    ) -> None:
        if not codec.available:
            raise ImageError(
                f"is {name}, which this build of imagecodecs does not decode; save it as PNG or TIFF"
            )
        self._file, self._decode = file, decode
        self.header = header.checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode at full size."""
        header = self.header
        check_memory(4 * header.n_bytes)
        self._file.seek(0)
        samples = np.asarray(self._decode(self._file.read()))
        if samples.ndim == 2:
            samples = samples[..., np.newaxis]
        expected = (header.height, header.width)
        if samples.shape[:2] != expected or samples.ndim != 3 or samples.shape[2] < header.channels:
            raise ImageError("is damaged: its pixels are not of the size that its header promises")
        if samples.dtype.itemsize * 8 != header.bits or samples.dtype.kind != "u":
            raise ImageError(f"has {samples.dtype.name} pixels where its header promises {header.bits} bits")
        return np.ascontiguousarray(samples[..., : header.channels])
