"""The sample for recalibration: images that were drawn without regard to their scores, and reviewed without gaps.

Conformal calibration needs normal images that are exchangeable with those to come. Reviewed images as such are not:
people look at the worst first, so that alarms which turned out to be normal are far more frequent among them than
among all normal images, and a threshold from them would miss defects; whoever looks at inconspicuous images only gets
one that is too low. So images are drawn when they arrive, and count once every image drawn before them was reviewed
too: which images calibrate depends on when they came, and never on their scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session

from ganomaly.store.schema import NORMAL, PredictionRow


@dataclass(frozen=True, eq=False)
class Sample:
    """What the sample of a model's file holds.

    Attributes
    ----------
    normal : list of PredictionRow
        Reviewed as normal, with every image drawn before them reviewed too; these calibrate.
    reviewed : int
        Images of this kind whatever their label.
    waiting : int
        Images drawn that wait for a review, or for that of an earlier one.
    first_gap : int or None
        Number of the first prediction of the sample without a review.
    """

    normal: list[PredictionRow]
    reviewed: int
    waiting: int
    first_gap: int | None

    @property
    def scores(self) -> NDArray[np.float64]:
        """`float64[n]`, of the images that calibrate."""
        return np.array([row.score for row in self.normal], dtype=np.float64)


def complete_sample(session: Session, model_id: int, versions: list[int], after: int = 0) -> Sample:
    """The images of the sample that may calibrate.

    Parameters
    ----------
    session : Session
        Of the store.
    model_id : int
        Of the model.
    versions : list of int
        Versions whose scores are those of the same networks.
    after : int
        Only predictions with a greater number: those that calibrated before.
    """
    row = PredictionRow
    drawn = list(
        session.scalars(
            select(row)
            .where(row.model_id == model_id, row.in_sample, row.version.in_(versions), row.id > after)
            .order_by(row.id)
        )
    )
    gap = next((position for position, each in enumerate(drawn) if each.label is None), None)
    complete = drawn if gap is None else drawn[:gap]
    return Sample(
        [each for each in complete if each.label == NORMAL],
        len(complete),
        len(drawn) - len(complete),
        None if gap is None else drawn[gap].id,
    )
