"""Images with and without their defects, for people."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ganomaly.audit.audit import AuditedImages, AuditedPair
from ganomaly.audit.datasets import PaintedImages, Painting
from ganomaly.data import ImageDataset, Subset
from ganomaly.outputs.panels import OVERLAY, panels
from ganomaly.outputs.report import ReportPair
from ganomaly.prediction import Prediction, Predictor

PAIRS_PER_KIND = 4


def report_pairs(
    model: Predictor, dataset: ImageDataset, audited: AuditedImages, *, batch_size: int
) -> list[ReportPair]:
    """Predict some audited images again, with maps.

    Parameters
    ----------
    model, dataset
        Those of the audit.
    audited : AuditedImages
        The audit.
    batch_size : int
        Images per batch.

    Returns
    -------
    list of ReportPair
        Of each kind up to four, from the one whose score falls most when it is painted to the one whose falls least.
    """
    chosen = _spread_pairs(dataset, audited.pairs)
    indices = [pair.index for pair in chosen]
    if not indices:
        return []
    paintings = [
        Painting(index, index, is_recorded=dataset.open_without_defect(index) is not None)
        for index in indices
    ]
    painted = PaintedImages(dataset, paintings, audited.audit.seed)
    before, after = (
        model.predict(images, batch_size=batch_size, details=True)
        for images in (Subset(dataset, np.array(indices, dtype=np.int64)), painted)
    )

    def panels_to_show(prediction: Prediction, index: int) -> dict[str, np.ndarray]:
        by_name = panels(prediction, model.map_calibration, dataset.read_mask(index))
        return {name: panel for name, panel in by_name.items() if name in ("image", OVERLAY)}

    return [
        ReportPair(
            path=dataset.records[pair.index].path,
            kind=dataset.records[pair.index].kind,
            score=pair.score,
            painted_out_score=pair.painted_out_score,
            panels=panels_to_show(with_defect, pair.index),
            painted_out_panels=panels_to_show(painted_out, pair.index),
        )
        for pair, with_defect, painted_out in zip(chosen, before, after, strict=True)
    ]


def _spread_pairs(dataset: ImageDataset, pairs: Sequence[AuditedPair]) -> list[AuditedPair]:
    """Some pairs of each kind, at even steps of how much their score falls."""
    by_kind: dict[str, list[AuditedPair]] = defaultdict(list)
    for pair in sorted(pairs, key=lambda pair: pair.painted_out_score - pair.score):
        by_kind[dataset.records[pair.index].kind or ""].append(pair)
    return [
        of_kind[position]
        for _, of_kind in sorted(by_kind.items())
        for position in sorted(
            {round(step) for step in np.linspace(0, len(of_kind) - 1, min(PAIRS_PER_KIND, len(of_kind)))}
        )
    ]
