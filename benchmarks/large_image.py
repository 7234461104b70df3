"""Scoring one very large image: time, peak memory, and whether tiles leave a seam.

Trains the preset `patches` briefly on woven cloth at full size, then scores a normal image of the same cloth
in a process of its own.

Run: python benchmarks/large_image.py [--width 4000] [--height 3000]
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.methods.patch_ganomaly import scoring
from machine import describe_machine

SCORE = """
import sys, time
from pathlib import Path
from ganomaly import GANomalyDetector
def peak_kilobytes():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
detector = GANomalyDetector.load(sys.argv[1])
before = peak_kilobytes()
start = time.perf_counter()
score = detector.anomaly_score([sys.argv[2]])[0]
seconds = time.perf_counter() - start
after = peak_kilobytes()
print(f"score {score:.4f} in {seconds:.1f} s")
print(f"peak memory {after / 1024:.0f} MB, {before / 1024:.0f} MB before scoring")
"""


def main() -> None:
    """Train, score, and compare tiles with one pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=4000)
    parser.add_argument("--height", type=int, default=3000)
    arguments = parser.parse_args()
    print(describe_machine())
    detector = GANomalyDetector("patches", epochs=2, false_alarm_rate=0.2, seed=0)
    detector.fit(np.stack([cloth(256, 256, seed) for seed in range(60)]))
    with tempfile.TemporaryDirectory() as folder:
        model, image = Path(folder) / "cloth.safetensors", Path(folder) / "large.png"
        detector.save(model)
        Image.fromarray(cloth(arguments.height, arguments.width, seed=1000)).save(image)
        process = subprocess.run(
            [sys.executable, "-c", SCORE, model, image], check=True, capture_output=True, text=True
        )
        print(f"{arguments.width}×{arguments.height} px: {'; '.join(process.stdout.splitlines())}")
    print(seams(detector))


def cloth(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """Woven cloth under uneven light, `uint8[height, width]`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    weave = 20 * np.sin(x * 0.9 + rng.uniform(0, 6)) + 20 * np.sin(y * 0.9 + rng.uniform(0, 6))
    light = 20 * np.sin(x / width * rng.uniform(1, 4)) * np.sin(y / height * rng.uniform(1, 4))
    noise = rng.normal(0, 4, (height, width)).astype(np.float32)
    pixels: NDArray[np.uint8] = np.clip(120 + weave + light + noise, 0, 255).astype(np.uint8)
    return pixels


def seams(detector: GANomalyDetector) -> str:
    """How much the map of an image in four tiles differs from its map in one pass."""
    image = cloth(1200, 1200, seed=2000)
    tiled = detector.anomaly_map(image)
    tile, scoring.TILE = scoring.TILE, 1200
    single_pass = detector.anomaly_map(image)
    scoring.TILE = tile
    return (
        f"1200×1200 px in tiles of {tile} px and in one pass: the maps differ by at most "
        f"{np.abs(tiled - single_pass).max():.2g}; they range from {single_pass.min():.2g} to {single_pass.max():.2g}"
    )


if __name__ == "__main__":
    main()
