"""Which pages of a TIFF are images, found by reading of each page only what kind it is."""

import os
import struct
from typing import IO

from tifffile import TiffFile

from ganomaly.errors import ImageError

MAX_PAGES = 100_000
"""More than any stack has that is an image a page."""

_NEW_KIND, _OLD_KIND = 254, 255
_REDUCED, _MASK, _OLD_REDUCED = 1, 4, 2
_BIG_TIFF = 43  # the version, of files that may be larger than 4 GB
_MAX_TAGS = 4096  # of a page, as tifffile takes it


def image_pages(tiff: TiffFile) -> list[int]:
    """Positions in `tiff.pages` of the pages that are images: the first, and all but thumbnails and masks.

    Raises
    ------
    ImageError
        If the chain of pages is damaged: it comes back to a page, or leaves the file.
    """
    file, layout = tiff.filehandle, tiff.tiff
    offset, pages, seen = int(tiff.pages.first.offset), list[int](), set[int]()
    while offset:
        if offset in seen or len(seen) == MAX_PAGES:
            raise ImageError("is damaged: its pages have no end")
        file.seek(offset)
        n_tags = _number(layout.tagnoformat, file.read(layout.tagnosize))
        if n_tags > _MAX_TAGS:
            raise ImageError(f"is truncated or damaged (a page of it would have {n_tags} tags)")
        tags = file.read(n_tags * layout.tagsize)
        is_first = not seen
        if is_first or _is_image(tags, layout.byteorder, layout.tagsize):
            pages.append(len(seen))
        seen.add(offset)
        offset = _number(layout.offsetformat, file.read(layout.offsetsize))
    return pages


def has_one_page(file: IO[bytes]) -> bool:
    """Whether the first page names no other, as in nearly all files; from a few bytes, since folders are large.

    Raises
    ------
    ImageError
        If the page leads out of the file.
    """
    start = file.read(16)
    order = "<" if start.startswith(b"II") else ">"
    is_big = _number(f"{order}H", start[2:4]) == _BIG_TIFF
    offset, tag_count, tag_size = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    file.seek(_number(f"{order}{offset}", start[8:16] if is_big else start[4:8]))
    n_tags = _number(f"{order}{tag_count}", file.read(struct.calcsize(tag_count)))
    file.seek(n_tags * tag_size, os.SEEK_CUR)
    return _number(f"{order}{offset}", file.read(struct.calcsize(offset))) == 0


def _number(layout: str, content: bytes) -> int:
    size = struct.calcsize(layout)
    if len(content) < size:
        raise ImageError("is truncated or damaged (its pages lead out of the file)")
    return int(struct.unpack(layout, content[:size])[0])


def _is_image(tags: bytes, byte_order: str, tag_size: int) -> bool:
    """Whether a page with these tags is neither a thumbnail nor a mask."""
    position_of_value = tag_size // 2 + 2  # 8 of 12 bytes, or 12 of 20
    for start in range(0, len(tags) - tag_size + 1, tag_size):
        code, _ = struct.unpack_from(f"{byte_order}HH", tags, start)
        if code > _OLD_KIND:  # they are in order
            break
        if code == _NEW_KIND:
            (kind,) = struct.unpack_from(f"{byte_order}I", tags, start + position_of_value)
            return not kind & (_REDUCED | _MASK)
        if code == _OLD_KIND:
            (kind,) = struct.unpack_from(f"{byte_order}H", tags, start + position_of_value)
            return bool(kind != _OLD_REDUCED)
    return True
