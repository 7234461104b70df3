"""Video files, by PyAV: each frame is an image of its own.

Frames are numbered in the order in which they are shown. A frame is found by the time in the file's own index, and
decoded from the key frame before it, so it is the same image whatever was read before.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from ganomaly.data.large_images import check_memory
from ganomaly.data.readers.encoded_image import EncodedImage, FormatFamily, ImageHeader, Pixels
from ganomaly.errors import ImageError

_VIDEOS_REMEMBERED = 16  # whose times of frames are kept, so that a video is not read through for each frame

Times = tuple[tuple[int, int], ...]
"""Of each frame in order: when it is shown, and where to begin to decode for it, in the file's own units."""


class VideoFrame(EncodedImage):
    """A frame of a video whose header has been read and whose pixels have not been decoded.

    Parameters
    ----------
    file : binary file
        At its start; read again when decoding, so it must stay open until then.
    number : int, optional
        Counts from 1. None for the only one: a video of several is refused.
    """

    def __init__(self, file: IO[bytes], number: int | None = None) -> None:
        self._file = file
        times = _times_of(file)
        if number is None and len(times) > 1:
            raise ImageError(
                f"holds {len(times)} frames where one image is expected; save the one that is meant"
            )
        if not 1 <= (number or 1) <= len(times):
            raise ImageError(f"holds {len(times)} frames, and no frame {number}")
        self._time, self._start = times[(number or 1) - 1]
        with _opened(file) as (_, stream):
            is_gray = str(stream.codec_context.pix_fmt or "").startswith("gray")
            self.header = ImageHeader(
                stream.codec_context.height, stream.codec_context.width, 1 if is_gray else 3, bits=8
            ).checked()

    def decode(self, smallest_side: int | None = None) -> Pixels:
        """Decode at full size, as RGB or gray of 8 bits; a rotation that the file asks for is not applied."""
        header = self.header
        check_memory(6 * header.n_bytes)
        with _opened(self._file) as (container, stream):
            container.seek(self._start, stream=stream, backward=True)
            for frame in container.decode(stream):
                if frame.pts != self._time:
                    continue
                pixels = frame.to_ndarray(format="gray" if header.channels == 1 else "rgb24")
                if pixels.shape[:2] != (header.height, header.width):
                    raise ImageError("changes its size, which is not read; save it in one size")
                decoded: Pixels = np.ascontiguousarray(pixels).reshape(
                    header.height, header.width, header.channels
                )
                return decoded
        raise ImageError("is truncated or damaged (the frame cannot be decoded)")


def _times_of(file: IO[bytes]) -> Times:
    """Those of a video file, read through once for a file that does not change."""
    name = getattr(file, "name", None)
    if not isinstance(name, str | Path):
        return _read_times(file)
    status = Path(name).stat()
    return _times_of_path(Path(name).resolve(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=_VIDEOS_REMEMBERED)
def _times_of_path(path: Path, size: int, modified: int) -> Times:
    # size and time tell a file from what was there before
    with path.open("rb") as file:
        return _read_times(file)


def _read_times(file: IO[bytes]) -> Times:
    """Read the times of all packets, without decoding any; those without a time or content are no frames."""
    with _opened(file) as (container, stream):
        packets = {
            packet.pts: (packet.is_keyframe, packet.pts if packet.dts is None else packet.dts)
            for packet in container.demux(stream)
            if packet.pts is not None and packet.size and not packet.is_discard
        }
    if not packets:
        raise ImageError("holds no frames that have a time; save it as MP4")
    times, start = [], min(decoded for _, decoded in packets.values())
    for shown, (is_key, decoded) in sorted(packets.items()):
        # by when it is decoded, since frames that are shown before a key frame may be stored after it
        start = decoded if is_key else start
        times.append((shown, start))
    return tuple(times)


@contextmanager
def _opened(file: IO[bytes]) -> Iterator[tuple[Any, Any]]:
    """A container and its first video stream."""
    try:
        import av
    except ModuleNotFoundError:
        raise ImageError("is a video, which PyAV reads; pip install 'ganomaly[camera]'") from None
    file.seek(0)
    with av.open(file, "r", metadata_errors="ignore") as container:
        if not container.streams.video:
            raise ImageError("has sound but no video")
        yield container, container.streams.video[0]


def _count_frames(file: IO[bytes]) -> int:
    return len(_times_of(file))


VIDEO = FormatFamily(
    names=("video",),
    suffixes=(".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi"),
    # of the formats that begin with ftyp, those of images (AVIF, HEIC) have other brands
    signature=re.compile(
        rb".{4}ftyp(?:isom|iso\d|mp4\d|avc1|M4V|MSNV|qt  |3gp|dash)"
        rb"|\x1aE\xdf\xa3|RIFF.{4}AVI |.{4}(?:moov|mdat|wide|free)",
        re.DOTALL,
    ),
    read_header=VideoFrame,
    count_images=_count_frames,
    read_image=VideoFrame,
)
