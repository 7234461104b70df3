"""Make the image of `docs/audit.md`: simulated bags with their threats, and the same scans without them.

python docs/figures/audit.py MODEL BAGS        where docs/figures/make.py left them
"""

import io
import sys
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

from ganomaly.audit import audit_model, plan_audit
from ganomaly.audit.pairs import report_pairs
from ganomaly.data import open_test_images
from ganomaly.outputs.report import ReportPair
from ganomaly.prediction import load_predictor

OUT = Path(__file__).parent / "audit_pairs.png"
PAIRS_SHOWN = 4


def main(model_path: Path, bags: Path) -> None:
    """Audit the model on the bags, and draw some pairs."""
    model, dataset = load_predictor(model_path), open_test_images(str(bags))
    scores = {
        prediction.index: prediction.score
        for prediction in model.predict(dataset)
        if prediction.score is not None
    }
    audited = audit_model(model, dataset, scores, plan_audit(dataset, scores))
    print(audited.audit.conclusion)
    pairs = report_pairs(model, dataset, audited, batch_size=16)
    draw([pairs[round(step * (len(pairs) - 1) / (PAIRS_SHOWN - 1))] for step in range(PAIRS_SHOWN)])


def draw(pairs: list[ReportPair]) -> None:
    """One row for each pair: image and anomaly map with the threat, then without."""
    figure, axes = plt.subplots(len(pairs), 4, figsize=(10, 1.85 * len(pairs)), squeeze=False)
    for row, pair in zip(axes, pairs, strict=True):
        panels = [*pair.panels.values(), *pair.painted_out_panels.values()]
        for axis, panel in zip(row, panels, strict=True):
            axis.imshow(panel)
            axis.set_axis_off()
        row[0].set_title(f"{pair.kind}: score {pair.score:.2f}", loc="left", fontsize=9)
        row[2].set_title(f"without it: score {pair.painted_out_score:.2f}", loc="left", fontsize=9)
    figure.tight_layout(pad=0.3)
    file = io.BytesIO()
    figure.savefig(file, dpi=90)
    # a palette of 256 colours makes the file a quarter as large
    Image.open(file).convert("RGB").quantize(256, kmeans=4).save(OUT, optimize=True)
    print(f"wrote {OUT}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
