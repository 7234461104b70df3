"""The embedded default: the whole job on simulated X-ray baggage, in a few minutes on two cores."""

from collections.abc import Callable
from pathlib import Path

from ganomaly.config import FitOptions
from ganomaly.data.baggage import THREAT_KINDS, write_simulated_baggage

NOTICE = (
    "These X-ray images are simulated. They show how the software works; "
    "figures measured on them say nothing about real baggage."
)
N_TRAIN = 1200
N_TEST_NORMAL = 200
N_TEST_PER_THREAT = 60
N_IMAGES = N_TRAIN + N_TEST_NORMAL + N_TEST_PER_THREAT * len(THREAT_KINDS)
SETTINGS = FitOptions(preset="paper", epochs=8, image_size=64, false_alarm_rate=0.05)


def write_images(folder: Path, progress: Callable[[int], None]) -> None:
    """Simulate 64×64 patches of bags, as in the publication's UBA data set, in MVTec AD layout."""
    write_simulated_baggage(
        folder,
        kind="patches",
        n_train=N_TRAIN,
        n_test_normal=N_TEST_NORMAL,
        n_test_per_threat=N_TEST_PER_THREAT,
        seed=0,
        progress=progress,
    )
