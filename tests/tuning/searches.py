"""A small search, in tests and in processes of their own."""

import sys
from pathlib import Path
from typing import Any

from ganomaly.config import FitOptions
from ganomaly.tuning import SearchOptions, SearchResult, search
from images import textures

OPTIONS = FitOptions(preset="paper", epochs=2, precision="fp32", method_options={"ngf": 4, "ndf": 4})


def small_search(storage: str, folder: Path, trials: int, data: Any = None, **asked: Any) -> SearchResult:
    """Search for 24 images of 32 px."""
    return search(
        textures(24) if data is None else data,
        OPTIONS,
        SearchOptions(trials, **{"budget": 1.0, **asked}),
        storage,
        folder=folder,
    )


if __name__ == "__main__":
    small_search(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
