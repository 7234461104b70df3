"""Anomaly scores of magnetic tiles that were held out of training, as they are and disturbed; for `drift.py`.

A model is trained on a part of the normal tiles of the lots 1 to 5 (the number after `exp` in the file's name). The
scores are of the other normal tiles of these lots, as they are, brighter, blurred and noisy; of the normal tiles of
lot 6; and of the tiles with defects.

Run: python benchmarks/tile_scores.py --data DATA/magnetic_tile --out tile_scores.json [--epochs 2]
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter

from ganomaly import GANomalyDetector
from machine import describe_machine

OTHER_LOT = "exp6"
N_TRAINING = 300
Disturbance = Callable[[Image.Image], Image.Image]


def noisy(image: Image.Image) -> Image.Image:
    """The image with Gaussian noise of σ = 10 gray levels, always the same one for an image of a size."""
    pixels = np.asarray(image, dtype=np.float64)
    noise = np.random.default_rng(0).normal(0, 10, pixels.shape)
    return Image.fromarray(np.clip(pixels + noise, 0, 255).round().astype(np.uint8))


DISTURBANCES: dict[str, Disturbance] = {
    "brightness × 1.1": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "brightness × 1.3": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "blur, σ = 1 px": lambda image: image.filter(ImageFilter.GaussianBlur(1)),
    "blur, σ = 2 px": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "noise, σ = 10": noisy,
}


def main() -> None:
    """Train, score and write the scores of each group as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="magnetic tiles in MVTec AD layout")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    parser.add_argument("--preset", default="patches")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    print(describe_machine())
    normal = sorted([*arguments.data.glob("train/good/*"), *arguments.data.glob("test/good/*")])
    lot = [path for path in normal if not path.name.startswith(OTHER_LOT)]
    np.random.default_rng(arguments.seed).shuffle(lot)
    training, held_out = sorted(lot[:N_TRAINING]), sorted(lot[N_TRAINING:])
    detector = GANomalyDetector(arguments.preset, epochs=arguments.epochs, seed=arguments.seed)
    detector.fit([str(path) for path in training])
    scores = {"undisturbed": score(detector, held_out, lambda image: image)}
    for name, disturbance in DISTURBANCES.items():
        scores[name] = score(detector, held_out, disturbance)
    scores["other lot"] = score(detector, [p for p in normal if p not in set(lot)], lambda image: image)
    defects = sorted(path for path in arguments.data.glob("test/*/*") if path.parent.name != "good")
    scores["defects"] = score(detector, defects, lambda image: image)
    arguments.out.write_text(json.dumps(scores))


def score(detector: GANomalyDetector, paths: list[Path], disturbance: Disturbance) -> list[float]:
    """A(x) of each image after the disturbance."""
    with tempfile.TemporaryDirectory() as folder:
        disturbed = []
        for number, path in enumerate(paths):
            disturbed.append(str(Path(folder) / f"{number:04}.png"))
            with Image.open(path) as image:
                disturbance(image.convert("L")).save(disturbed[-1])
        return [float(value) for value in detector.anomaly_score(disturbed)]


if __name__ == "__main__":
    main()
