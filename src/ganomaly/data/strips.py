"""Large images are worked on in strips of rows, so that no step needs memory for a second whole image."""

from collections.abc import Iterator

PIXELS = 2**22
"""Of a strip at most, but for a single row."""


def row_strips(height: int, width: int) -> Iterator[slice]:
    """The rows of an image in strips; all rows of one that has at most `PIXELS` are one strip."""
    rows = max(1, PIXELS // max(1, width))
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))
