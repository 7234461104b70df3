"""A model card: what a model is for, where it comes from, and what is known of how well it works."""

import json
from collections.abc import Mapping
from typing import Any

from ganomaly.prediction import Predictor

TAGS = ["anomaly-detection", "ganomaly", "conformal-prediction"]

_FIGURES = {
    "image_auroc": "AUROC of images",
    "image_average_precision": "average precision of images",
    "image_f1": "F1 at the threshold",
    "false_alarm_rate": "false-alarm rate, measured",
    "detection_rate": "detection rate at the threshold",
    "fpr_at_95_tpr": "false-alarm rate at 95 % detection",
    "pixel_auroc": "AUROC of pixels",
    "aupro": "AUPRO",
    "n_normal": "normal images",
    "n_anomalous": "anomalous images",
}
"""Of `ganomaly evaluate --json`, with what a card calls them."""

_PROVENANCE = {
    "training_images": "training images",
    "calibration_images": "calibration images",
    "epochs": "epochs",
    "steps": "steps",
    "precision": "precision of training",
    "seed": "seed",
    "ganomaly": "ganomaly",
    "torch": "PyTorch",
    "created": "created",
    "version": "version",
}
"""What a card says of a model's provenance; nothing of the machine, and no path."""


def model_card(
    model: Predictor, repository: str, figures: Mapping[str, Any] | None = None, licence: str | None = None
) -> str:
    """The text of `README.md`: YAML, then Markdown.

    Parameters
    ----------
    model : Predictor
        The model.
    repository : str
        `ORG/NAME`, as in the example of how to load it.
    figures : mapping, optional
        What `ganomaly evaluate --json` wrote of it.
    licence : str, optional
        Its identifier on the hub, such as 'apache-2.0'; the card has none without.
    """
    name = repository.rstrip("/").rpartition("/")[2]
    head = {
        "library_name": "ganomaly",
        "tags": TAGS,
        **({} if licence is None else {"license": licence}),
    }
    # JSON is YAML too, so no value can be read as anything else
    lines = ["---", *(f"{key}: {json.dumps(value)}" for key, value in head.items()), "---", ""]
    lines += [
        f"# {_plain(name)}",
        "",
        "Finds images that are not like the normal images it learned from; "
        f"method `{_plain(model.method_name)}`, preset `{_plain(model.preset)}`, of ganomaly.",
        "",
        *_usage(repository),
        *_intended_use(model),
        *_table("Where it comes from", _provenance(model)),
        *_measured(figures),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _usage(repository: str) -> list[str]:
    return [
        "```python",
        "from ganomaly import GANomalyDetector",
        "",
        f"detector = GANomalyDetector.from_pretrained({json.dumps(repository)})",
        'detector.predict("new_images")  # +1 normal, -1 anomalous',
        "```",
        "",
    ]


def _intended_use(model: Predictor) -> list[str]:
    calibration, preprocessing = model.calibration, model.preprocessing
    values = " that hold physical values" if preprocessing.value_range is not None else ""
    return [
        "## Intended use",
        "",
        f"Images{values} of the same kind, from the same camera and light, as the normal images it was trained on: "
        f"{preprocessing.channels_in_words}, {preprocessing.bits} bit. Then about "
        f"{100 * calibration.attained_rate:.3g} % of normal images are called anomalous "
        f"(threshold {calibration.threshold:.4g}, from {len(calibration.scores)} calibration images that were held "
        "out). This holds only as long as new images are exchangeable with those.",
        "",
        "It is not meant for other products, cameras or light without calibration on images of those, and for no "
        "decision about people. What it does not find is not thereby normal: only an evaluation on real defects "
        "says how many are found.",
        "",
    ]


def _provenance(model: Predictor) -> dict[str, Any]:
    provenance = model.provenance
    return {
        label: provenance[name] for name, label in _PROVENANCE.items() if provenance.get(name) is not None
    }


def _measured(figures: Mapping[str, Any] | None) -> list[str]:
    if figures is None:
        return ["## Figures", "", "None were given: how well it finds defects is not known here."]
    known = {label: figures[name] for name, label in _FIGURES.items() if figures.get(name) is not None}
    return _table("Figures, as measured by `ganomaly evaluate`", known)


def _table(title: str, rows: Mapping[str, Any]) -> list[str]:
    body = [
        f"| {_plain(label)} | {value:.4g} |" if isinstance(value, float) else f"| {label} | {_plain(value)} |"
        for label, value in rows.items()
    ]
    return [f"## {title}", "", "| | |", "| --- | --- |", *body, ""]


def _plain(value: object) -> str:
    """A text that Markdown does not read as markup, in one line."""
    text = " ".join(str(value).split())
    return "".join(f"\\{character}" if character in "\\`*_[]<>|#" else character for character in text)
