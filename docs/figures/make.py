"""Make the two images of the README from what `make demo` leaves.

python docs/figures/make.py        in the root of the repository, after `make demo`; it needs Chromium
"""

import csv
import io
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image
from playwright.sync_api import sync_playwright

from ganomaly.data.baggage import THREAT_KINDS

FIGURES = Path(__file__).parent
DEMO = Path("demo")
BAGS = DEMO / "baggage"
MODEL = DEMO / "baggage.safetensors"
MAPS = DEMO / "maps"
TABLE = DEMO / "bags.csv"
KINDS = ("good", *THREAT_KINDS)
MAP_MAXIMUM = 65535  # of 16 bits; the map's threshold is half of it


def main() -> None:
    """Make both."""
    # palettes of 256 colours make the files half as large
    save(screenshot(DEMO / "report.html").quantize(256, kmeans=4), FIGURES / "report.png")
    ganomaly("score", MODEL, BAGS / "test", "--out", TABLE, "--maps", MAPS)
    bags = images_and_maps()
    palette = bags.quantize(256, method=Image.Quantize.FASTOCTREE)  # has the colours of small areas too
    save(bags.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG), FIGURES / "map_overlay.png")


def ganomaly(*arguments: object) -> None:
    """Run the command line as a user would."""
    subprocess.run([sys.executable, "-m", "ganomaly", *map(str, arguments)], check=True)


def screenshot(page: Path) -> Image.Image:
    """Show the top of a page, down to its first row of images."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1200, "height": 1120})
        view.goto(page.resolve().as_uri())
        view.wait_for_timeout(1000)  # milliseconds; images are decoded when they come into view
        image = view.screenshot()
        browser.close()
    return Image.open(io.BytesIO(image)).convert("RGB")


def images_and_maps() -> Image.Image:
    """Show a normal bag and the bag with the highest score of each kind, with overlay and anomaly map."""
    with TABLE.open(newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: float(row["score"]))
    figure, axes = plt.subplots(3, len(KINDS), figsize=(9.6, 5.2), dpi=100, layout="constrained")
    for kind, (image, overlay, anomaly_map) in zip(KINDS, axes.T, strict=True):
        paths = [Path(row["path"]) for row in rows if Path(row["path"]).parent.name == kind]
        path = paths[len(paths) // 2] if kind == "good" else paths[-1]  # a normal bag of median score
        image.set_title("normal" if kind == "good" else kind.replace("_", " "))
        image.imshow(Image.open(path))
        overlay.imshow(Image.open(MAPS / kind / f"{path.stem}_overlay.png"))
        anomaly_map.imshow(Image.open(MAPS / kind / path.name), cmap="inferno", vmin=0, vmax=MAP_MAXIMUM)
    for axis, label in zip(axes[:, 0], ("image", "overlay", "anomaly map"), strict=True):
        axis.set_ylabel(label)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream)
    return Image.open(stream).convert("RGB")


def save(image: Image.Image, path: Path) -> None:
    """Write a PNG and say how large it is."""
    image.save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
