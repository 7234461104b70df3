"""scikit-learn's base classes, or minimal ones where it is not installed.

`ganomaly-inference`, which predicts with exported models only, does without scikit-learn, which is large.
"""

import copy
from typing import Any, Self

try:
    from sklearn.base import BaseEstimator, OutlierMixin
    from sklearn.exceptions import NotFittedError
except ModuleNotFoundError:

    class BaseEstimator:  # type: ignore[no-redef]  # replaces the missing one
        """Without `get_params` and `clone`."""

    class OutlierMixin:  # type: ignore[no-redef]
        """Empty: predictions need nothing of it."""

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """The detector has no model yet."""


class CopiesShareTheModel:
    """Copies of an estimator share its `model_`, which nothing changes; with one, it is not pickled."""

    def __copy__(self) -> Self:
        """Copy parameters and trained model by reference."""
        copied = type(self).__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Copy the parameters; the trained model is shared, because nothing changes it: `fit` makes a new one."""
        copied = copy.copy(self)
        for name, value in vars(self).items():
            if name != "model_":
                setattr(copied, name, copy.deepcopy(value, memo))
        return copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickle an unfitted detector, whose parameters are harmless; refuse a fitted one."""
        if hasattr(self, "model_"):
            raise TypeError(
                "a fitted GANomalyDetector is not pickled, because loading a pickle runs code; "
                "use detector.save(path) and GANomalyDetector.load(path)"
            )
        return super().__reduce_ex__(protocol)


__all__ = ["BaseEstimator", "CopiesShareTheModel", "NotFittedError", "OutlierMixin"]
