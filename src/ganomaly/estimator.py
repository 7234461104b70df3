"""scikit-learn's base classes, or minimal ones where it is not installed.

`ganomaly-inference`, which predicts with exported models only, does without scikit-learn, which is large.
"""

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


__all__ = ["BaseEstimator", "NotFittedError", "OutlierMixin"]
