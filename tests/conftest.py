"""What several tests share: small images, a small trained model, and the real data where they are."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray

from images import SMALL, textures, write_images

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from ganomaly import GANomalyDetector

# how long an example takes depends on what else the machine does; no test is timed
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# what fits measure of this machine is not the user's
os.environ.setdefault("GANOMALY_CACHE", tempfile.mkdtemp(prefix="ganomaly-cache-"))

CHROMIUM = Path("/usr/bin/chromium")
SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; the test is skipped where it is missing, unless it must run."""
    if not SHARED_DATA.is_dir():
        if os.environ.get("GANOMALY_REQUIRE_SHARED_DATA") == "1":
            pytest.fail(f"{SHARED_DATA} is missing, but GANOMALY_REQUIRE_SHARED_DATA=1 says it must be there")
        pytest.skip(f"needs the real images in {SHARED_DATA}")
    return SHARED_DATA


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Headless Chromium; the test is skipped where it is missing, unless it must run."""
    if not CHROMIUM.exists():
        if os.environ.get("GANOMALY_REQUIRE_SHARED_DATA") == "1":
            pytest.fail(f"{CHROMIUM} is missing, but GANOMALY_REQUIRE_SHARED_DATA=1 says it must be there")
        pytest.skip(f"needs Chromium at {CHROMIUM}")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield started
        started.close()


@pytest.fixture(scope="session")
def normal_images() -> NDArray[np.uint8]:
    """60 normal images, `uint8[60, 32, 32]`."""
    return textures(60)


@pytest.fixture(scope="session")
def anomalous_images() -> NDArray[np.uint8]:
    """12 anomalous images, `uint8[12, 32, 32]`."""
    return textures(12, seed=1, blob=True)


@pytest.fixture(scope="session")
def detector(normal_images: NDArray[np.uint8]) -> "GANomalyDetector":
    """A small detector, trained; tests must not change it."""
    from ganomaly import GANomalyDetector

    return GANomalyDetector(
        "paper", epochs=12, false_alarm_rate=0.1, precision="fp32", method_options=SMALL, seed=3
    ).fit(normal_images)


@pytest.fixture(scope="session")
def model_path(detector: "GANomalyDetector", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small detector in a file."""
    path = tmp_path_factory.mktemp("model") / "textures.safetensors"
    detector.save(path)
    return path


@pytest.fixture
def normal_folder(tmp_path: Path, normal_images: NDArray[np.uint8]) -> Path:
    """A folder of 40 normal PNG images."""
    return write_images(tmp_path / "normal", normal_images[:40])


@pytest.fixture
def labelled_folder(tmp_path: Path) -> Path:
    """A dataset folder in MVTec AD layout: 40 images to train on, 12 normal and 12 anomalous ones to test."""
    root = tmp_path / "parts"
    write_images(root / "train" / "good", textures(40))
    write_images(root / "test" / "good", textures(12, seed=5))
    write_images(root / "test" / "blob", textures(12, seed=6, blob=True))
    masks = (np.zeros((12, 32, 32)) + (np.hypot(*(np.mgrid[:32, :32] - 16)) < 5) * 255).astype(np.uint8)
    write_images(root / "ground_truth" / "blob", masks, suffix="_mask.png")
    return root
