"""scikit-learn's base classes; where it is not installed, what judging needs of them.

An install that only judges with exported models leaves scikit-learn out, which is large.
"""

try:
    from sklearn.base import BaseEstimator, OutlierMixin
    from sklearn.exceptions import NotFittedError
except ModuleNotFoundError:

    class BaseEstimator:  # type: ignore[no-redef]  # takes the place of the one that is missing
        """Without `get_params` and `clone`."""

    class OutlierMixin:  # type: ignore[no-redef]
        """Nothing that judging needs."""

    class NotFittedError(ValueError, AttributeError):  # type: ignore[no-redef]
        """There is no model yet."""


__all__ = ["BaseEstimator", "NotFittedError", "OutlierMixin"]
