"""Learn what normal images look like, and find the ones that are not.

>>> from ganomaly import GANomalyDetector
>>> detector = GANomalyDetector(preset="paper", seed=0)
"""

from typing import TYPE_CHECKING, Any

from ganomaly.errors import (
    DataError,
    GANomalyError,
    ImageError,
    ModelFileError,
    OutputError,
    TrainingError,
    UsageError,
)
from ganomaly.version import __version__

if TYPE_CHECKING:
    from ganomaly.detector import GANomalyDetector

__all__ = [
    "DataError",
    "GANomalyDetector",
    "GANomalyError",
    "ImageError",
    "ModelFileError",
    "OutputError",
    "TrainingError",
    "UsageError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    # the detector needs NumPy and scikit-learn, whose import takes a second: imported on first use
    if name == "GANomalyDetector":
        from ganomaly.detector import GANomalyDetector

        return GANomalyDetector
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
