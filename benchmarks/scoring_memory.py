"""Peak memory while scoring: it must not grow with the number of images.

Scores a folder of small PNG files, each in a process of its own, with 1,000 and with 100,000 images.

Run: python benchmarks/scoring_memory.py [--few 1000] [--many 100000]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ganomaly import GANomalyDetector
from machine import describe_machine

SCORE = """
import sys
from pathlib import Path
from ganomaly.cli import app
try:
    app(["score", sys.argv[1], sys.argv[2], "--out", sys.argv[3]])
except SystemExit as stop:
    assert not stop.code, stop.code
lines = Path("/proc/self/status").read_text().splitlines()
print(next(line.split()[1] for line in lines if line.startswith("VmHWM")))
"""


def write_images(folder: Path, n: int) -> Path:
    """Write n gray PNG files of 64×64 px; there are 200 different ones."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (64, 64), dtype=np.uint8) for _ in range(200)]
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:06}.png")
    for number in range(len(images), n):
        (folder / f"{number:06}.png").hardlink_to(folder / f"{number % 200:06}.png")
    return folder


def peak_megabytes(model: Path, images: Path, out: Path) -> float:
    """Score in a process of its own and return its peak resident memory."""
    command = [sys.executable, "-c", SCORE, str(model), str(images), str(out)]
    process = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(process.stdout.split()[-1]) / 1024


def main() -> None:
    """Measure and print both peaks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=100_000)
    arguments = parser.parse_args()
    print(describe_machine())
    rng = np.random.default_rng(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "model.safetensors"
        images = rng.integers(0, 255, (200, 64, 64), dtype=np.uint8)
        GANomalyDetector(epochs=1, image_size=32, false_alarm_rate=0.05).fit(images).save(model)
        peaks = {}
        for n in (arguments.few, arguments.many):
            data = write_images(folder / f"{n}", n)
            peaks[n] = peak_megabytes(model, data, folder / f"{n}.csv")
            print(f"{n:6} images: peak {peaks[n]:.0f} MB", flush=True)
        print(f"ratio {peaks[arguments.many] / peaks[arguments.few]:.3f}")


if __name__ == "__main__":
    main()
