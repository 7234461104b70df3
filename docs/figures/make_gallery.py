"""Make the images of docs/gallery.md from a model and the images that it is tested on.

python docs/figures/make_gallery.py MODEL DATA simulated_bags        DATA in MVTec AD layout
python docs/figures/make_gallery.py MODEL elpv solar_cells           cells of the installed package `elpv-dataset`
"""

import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

from ganomaly.benchmark.elpv import find_elpv, split_elpv
from ganomaly.data import ImageDataset, Subset, open_test_images
from ganomaly.outputs.panels import OVERLAY, panels
from ganomaly.prediction import Prediction, Predictor, load_predictor

OUT = Path(__file__).parent / "gallery"
SHOWN_PER_CLASS = 40
"""Images of each kind that are predicted: enough for good and bad ones, and a matter of minutes."""


@dataclass(frozen=True, eq=False)
class Example:
    """An image to show: what it stands for, what the model says of it, and what a person says."""

    title: str
    prediction: Prediction
    index: int
    """In the dataset."""


def main(model_path: Path, data: str, name: str) -> None:
    """Predict some images of each kind, and draw what is found, what is missed, and what is a false alarm."""
    model = load_predictor(model_path)
    dataset: ImageDataset = split_elpv(find_elpv(), 0)[1] if data == "elpv" else open_test_images(data)
    chosen = [index for kind in kinds(dataset) for index in some(dataset, kind)]
    predictions = list(model.predict(Subset(dataset, chosen), details=True))
    by_kind: dict[str, list[tuple[Prediction, int]]] = {kind: [] for kind in kinds(dataset)}
    for prediction, index in zip(predictions, chosen, strict=True):
        if prediction.score is not None:
            by_kind[kind_of(dataset, index)].append((prediction, index))
    draw(model, dataset, examples(by_kind), OUT / f"{name}.png")


def kind_of(dataset: ImageDataset, index: int) -> str:
    """`normal`, a kind of defect, or `defective` where the kinds have no names."""
    record = dataset.records[index]
    return (record.kind or "defective") if record.is_anomalous else "normal"


def kinds(dataset: ImageDataset) -> Sequence[str]:
    """All kinds, normal first."""
    names = {kind_of(dataset, index) for index in range(len(dataset))}
    return ["normal", *sorted(names - {"normal"})]


def some(dataset: ImageDataset, kind: str) -> Sequence[int]:
    """Images of a kind, evenly over the dataset."""
    every = [index for index in range(len(dataset)) if kind_of(dataset, index) == kind]
    return every[:: max(1, len(every) // SHOWN_PER_CLASS)]


def examples(by_kind: dict[str, list[tuple[Prediction, int]]]) -> Sequence[Example]:
    """Of each kind the image of median score; then the highest score, and the worst errors of both kinds."""
    score: Callable[[tuple[Prediction, int]], float] = lambda pair: pair[0].score or 0.0  # noqa: E731
    ordered = {kind: sorted(pairs, key=score) for kind, pairs in by_kind.items()}
    normal = ordered.pop("normal")
    shown = [Example("normal, median score", *normal[len(normal) // 2])]
    shown += [Example(f"{words(kind)}, median", *pairs[len(pairs) // 2]) for kind, pairs in ordered.items()]
    kind, highest = max(
        ((kind, pairs[-1]) for kind, pairs in ordered.items()), key=lambda each: score(each[1])
    )
    shown.append(Example(f"{words(kind)}, highest", *highest))
    kind, lowest = min(((kind, pairs[0]) for kind, pairs in ordered.items()), key=lambda each: score(each[1]))
    return [*shown, Example(f"{words(kind)}, lowest", *lowest), Example("normal, highest", *normal[-1])]


def words(kind: str) -> str:
    """The name of a folder as words."""
    return kind.replace("_", " ")


def draw(model: Predictor, dataset: ImageDataset, shown: Sequence[Example], path: Path) -> None:
    """One column for each example: the image, and the overlay with the mask outlined where there is one."""
    figure, axes = plt.subplots(2, len(shown), figsize=(2.0 * len(shown), 3.6), layout="constrained")
    for example, (image, overlay) in zip(shown, axes.T, strict=True):
        record = dataset.records[example.index]
        mask = dataset.read_mask(example.index) if record.is_anomalous else None
        drawn = panels(example.prediction, model.map_calibration, mask)
        image.imshow(np.squeeze(drawn["image"]), cmap="gray")
        overlay.imshow(drawn[OVERLAY])
        verdict = "anomalous" if example.prediction.is_anomaly else "normal"
        image.set_title(example.title, fontsize=9)
        overlay.set_xlabel(f"p = {example.prediction.p_value:.3f}: {verdict}", fontsize=8)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    stream = io.BytesIO()
    figure.savefig(stream, dpi=90)
    path.parent.mkdir(exist_ok=True)
    # a palette of 256 colours makes the file a quarter as large
    Image.open(stream).convert("RGB").quantize(256, kmeans=4).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
