"""The sample for recalibration: which images may calibrate never depends on their scores."""

import numpy as np

from ganomaly.calibration import Calibration
from ganomaly.store import Store
from ganomaly.store.reviews import add_review, undo_review
from ganomaly.store.sample import complete_sample
from store.conftest import add, row


def test_images_count_once_all_drawn_before_them_were_reviewed(store: Store) -> None:
    numbers = add(store, *(row(i, in_sample=True) for i in range(6)))
    with store.writing() as session:
        for position, label in ((0, "normal"), (1, "scratch"), (2, "normal"), (4, "normal")):
            add_review(session, numbers[position], label, "", "ann")
        session.flush()
        sample = complete_sample(session, 1, [1])
        assert [each.id for each in sample.normal] == [numbers[0], numbers[2]]
        assert (sample.reviewed, sample.waiting, sample.first_gap) == (3, 3, numbers[3])
        add_review(session, numbers[3], "unsure", "", "ann")
        session.flush()
        assert [each.id for each in complete_sample(session, 1, [1]).normal] == [
            numbers[i] for i in (0, 2, 4)
        ]
        undo_review(session, numbers[0], "ann")
        session.flush()
        assert complete_sample(session, 1, [1]).normal == []


def test_images_that_were_not_drawn_never_calibrate(store: Store) -> None:
    numbers = add(store, *(row(i, in_sample=False) for i in range(4)))
    with store.writing() as session:
        for number in numbers:
            add_review(session, number, "normal", "", "ann")
        session.flush()
        assert complete_sample(session, 1, [1]).normal == []


def test_those_that_calibrated_before_and_other_networks_are_left_out(store: Store) -> None:
    numbers = add(store, *(row(i, in_sample=True, version=1 + i % 2) for i in range(6)))
    with store.writing() as session:
        for number in numbers:
            add_review(session, number, "normal", "", "ann")
        session.flush()
        sample = complete_sample(session, 1, [1], after=numbers[1])
        assert [each.id for each in sample.normal] == [numbers[2], numbers[4]]


def test_the_sample_keeps_the_guarantee_and_reviewed_alarms_do_not() -> None:
    """1,000 stations: the rate of false alarms after a recalibration, by the sample and by whatever was reviewed."""
    rate, drawn, first = 0.05, 100, 60
    by_sample, by_worst = [], []
    generator = np.random.default_rng(0)
    for _ in range(1000):
        before = generator.gamma(4, size=first)
        stream = generator.gamma(4, size=2000)
        sample = stream[:drawn]
        worst = np.sort(stream)[-drawn:]  # what a person sees who looks at the worst first
        fresh = generator.gamma(4, size=2000)
        for scores, alarms in ((sample, by_sample), (worst, by_worst)):
            calibration = Calibration(np.concatenate([before, scores]), rate)
            alarms.append(calibration.is_anomaly(fresh).mean())
    error = 3 * np.std(by_sample) / np.sqrt(1000)
    assert np.mean(by_sample) <= rate + error
    assert np.mean(by_sample) > 0.8 * rate
    assert np.mean(by_worst) < 0.5 * rate  # the threshold is far too high: defects are missed
