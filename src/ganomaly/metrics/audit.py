"""What the scores of an audit say: images with their defects, and the same images with the defects painted out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ganomaly.config import SEED
from ganomaly.errors import UsageError
from ganomaly.metrics.images import image_auroc

CONTROL_MARGIN = 0.1
"""How far `control_auroc` may be from .5 for an audit that says something."""

_SEPARATES = 0.55  # image AUROC below which there is nothing to explain
_FEW = 20  # pairs; with fewer, an AUROC is off by a tenth by chance


@dataclass(frozen=True)
class KindAudit:
    """The audit of the images of one kind, or of all together; a figure that cannot be had is None.

    Attributes
    ----------
    image_auroc : float or None
        Audited images, as they are, against normal images.
    painted_out_auroc : float or None
        The same images with their defects painted out against normal images; .5 where the model sees nothing but
        the defects.
    defect_auroc : float or None
        Images with their defects against the same images without, as two groups.
    defect_pairs : float or None
        Share of the images that score higher with their defect than without; equal scores count half.
    control_auroc : float or None
        Painted normal images against the same images unpainted, as two groups; .5 where the painting itself is not
        seen.
    control_pairs : float or None
        Share of the painted normal images that score higher than unpainted; equal scores count half.
    n, n_control : int
        Audited images, and painted normal images.
    """

    image_auroc: float | None
    painted_out_auroc: float | None
    defect_auroc: float | None
    defect_pairs: float | None
    control_auroc: float | None
    control_pairs: float | None
    n: int
    n_control: int


@dataclass(frozen=True)
class Audit(KindAudit):
    """Whether a model sees the defects of images or something else about them.

    Attributes
    ----------
    n_normal : int
        Normal images with a score.
    n_mask_too_large, n_without_mask : int
        Anomalous images that were left out: their mask covers too much of them, or there is none.
    n_recorded : int
        Audited images that were recorded without their defect too, so that nothing was painted.
    seed : int
        Of painting and of the choice of normal images.
    per_kind : mapping of str to KindAudit
        In alphabetical order.
    """

    n_normal: int
    n_mask_too_large: int = 0
    n_without_mask: int = 0
    n_recorded: int = 0
    seed: int = SEED
    per_kind: Mapping[str, KindAudit] = field(default_factory=dict)

    @property
    def is_conclusive(self) -> bool | None:
        """Whether the figures say something; None without a control.

        They do if the model does not see the painting itself, or nothing was painted, and if it tells the images from
        normal ones by more than chance, where it seems to tell them.
        """
        return self._control_is_passed and not self._may_be_chance()

    @property
    def _control_is_passed(self) -> bool | None:
        if 0 < self.n == self.n_recorded:
            return True
        if self.control_auroc is None:
            return None
        return abs(self.control_auroc - 0.5) <= CONTROL_MARGIN

    @property
    def conclusion(self) -> str:
        """What the figures say, in one or two sentences."""
        if self.n == 0:
            return "Nothing could be audited: no anomalous image has a mask of a small part of it."
        if self._control_is_passed is None:
            return "The audit says nothing: without normal images to paint there is no control of what painting does."
        if self.control_auroc is not None and not self._control_is_passed:
            higher = self.control_auroc > 0.5
            return (
                f"The audit says nothing about this model: it sees the painting itself. Normal images score "
                f"{'higher' if higher else 'lower'} once they are painted (control AUROC {self.control_auroc:.2f}; "
                f"0.50 is right), so the figures without the defects are too {'high' if higher else 'low'}."
            )
        return self._what_is_seen()

    def to_json_dict(self) -> dict[str, Any]:
        """Return the audit under the names of `evaluate --audit --json`."""
        return {**asdict(self), "is_conclusive": self.is_conclusive, "conclusion": self.conclusion}

    def _may_be_chance(self) -> bool:
        return self.image_auroc is not None and _SEPARATES <= self.image_auroc <= 0.5 + self._chance()

    def _chance(self) -> float:
        """Two standard errors of the AUROC of two groups that do not differ: Mann and Whitney's U."""
        return 2 * math.sqrt((self.n + self.n_normal + 1) / (12 * self.n * self.n_normal))

    def _what_is_seen(self) -> str:
        with_defect, without = self.image_auroc, self.painted_out_auroc
        if with_defect is None or without is None:
            return "There are no normal images to compare with."
        if with_defect < _SEPARATES:
            return f"The model does not tell these images from normal ones (AUROC {with_defect:.2f})."
        figures = f"AUROC {with_defect:.2f} with the defects, {without:.2f} without them"
        if self._may_be_chance():
            return (
                f"The audit says nothing yet: {figures}, which {self.n} anomalous and {self.n_normal} normal images "
                "can have by chance; audit more images, or a model that finds more."
            )
        remaining = max(0.0, without - 0.5) / (with_defect - 0.5)
        if without - 0.5 <= self._chance():
            remaining = 0.0
        if remaining > 0.5:
            seen = "mostly something other than the defects"
        elif remaining > 0.2:
            seen = "the defects, and something else about these images"
        else:
            seen = "the defects"
        few = f" {self.n} images are few; such figures are off by a tenth by chance." if self.n < _FEW else ""
        return f"The model sees {seen}: {figures}.{few}"


def audit_metrics(
    with_defect: ArrayLike,
    painted_out: ArrayLike,
    kinds: Sequence[str | None],
    normal: ArrayLike,
    control_before: ArrayLike,
    control_painted: ArrayLike,
    control_kinds: Sequence[str | None],
    **counts: int,
) -> Audit:
    """Compare scores of images before and after painting.

    Parameters
    ----------
    with_defect, painted_out : array_like
        `float[n]`, A(x) of the audited images with their defects and without.
    kinds : sequence of str or None
        The kind of each defect.
    normal : array_like
        `float[m]`, A(x) of the normal images.
    control_before, control_painted : array_like
        `float[k]`, A(x) of normal images before and after painting; an image may come more than once.
    control_kinds : sequence of str or None
        The kind of the defect whose mask was painted.
    **counts : int
        Further attributes of `Audit`.

    Raises
    ------
    UsageError
        If lengths differ.

    Examples
    --------
    >>> audit = audit_metrics([5, 6, 7], [1, 2, 3], ["hole"] * 3, [1, 2, 3], [1, 2], [1, 2], ["hole"] * 2)
    >>> audit.image_auroc, audit.painted_out_auroc, audit.defect_auroc, audit.defect_pairs, audit.control_auroc
    (1.0, 0.5, 1.0, 1.0, 0.5)
    """
    defects = _Pairs.checked(with_defect, painted_out, kinds)
    controls = _Pairs.checked(control_before, control_painted, control_kinds)
    normal_scores = np.asarray(normal, dtype=np.float64)
    names = sorted({kind for kind in kinds if kind is not None})
    per_kind = {
        name: KindAudit(**_figures(defects.of_kind(name), controls.of_kind(name), normal_scores))
        for name in names
    }
    all_kinds = _figures(defects, controls, normal_scores)
    return Audit(**all_kinds, n_normal=len(normal_scores), per_kind=per_kind, **counts)


@dataclass(frozen=True, eq=False)
class _Pairs:
    """`float64[n]` scores before and after painting, and the n kinds of what was painted."""

    before: NDArray[np.float64]
    after: NDArray[np.float64]
    kinds: Sequence[str | None]

    @classmethod
    def checked(cls, before: ArrayLike, after: ArrayLike, kinds: Sequence[str | None]) -> "_Pairs":
        first, second = np.asarray(before, dtype=np.float64), np.asarray(after, dtype=np.float64)
        if first.shape != second.shape or first.shape != (len(kinds),):
            raise UsageError(
                f"{first.size} scores before painting came with {second.size} after it and {len(kinds)} kinds; "
                "give one of each for each image"
            )
        return cls(first, second, kinds)

    def of_kind(self, name: str) -> "_Pairs":
        is_kind = np.array([kind == name for kind in self.kinds], dtype=np.bool_)
        return _Pairs(self.before[is_kind], self.after[is_kind], [name] * int(is_kind.sum()))


def _figures(defects: _Pairs, controls: _Pairs, normal: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "image_auroc": _auroc(defects.before, normal),
        "painted_out_auroc": _auroc(defects.after, normal),
        "defect_auroc": _auroc(defects.before, defects.after),
        "defect_pairs": _share_above(defects.before, defects.after),
        "control_auroc": _auroc(controls.after, controls.before),
        "control_pairs": _share_above(controls.after, controls.before),
        "n": len(defects.kinds),
        "n_control": len(controls.kinds),
    }


def _auroc(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float | None:
    return image_auroc(np.concatenate([higher, lower]), np.arange(len(higher) + len(lower)) < len(higher))


def _share_above(higher: NDArray[np.float64], lower: NDArray[np.float64]) -> float | None:
    if len(higher) == 0:
        return None
    return float((higher > lower).mean() + 0.5 * (higher == lower).mean())
