"""More features in a memory bank: no score grows, in whatever order, and the false-alarm rate keeps its bound."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from scipy.stats import binom

from ganomaly import GANomalyDetector
from ganomaly.calibration import Calibration
from ganomaly.data import open_images, open_training_images
from ganomaly.export import export_model
from ganomaly.methods.neighbours import ImageMemoryBank, banks_of
from ganomaly.prediction import load_predictor
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.training.update import update_model
from images import textures

ROUNDING = 1e-6
OPTIONS = {
    "features": {"ngf": 8, "ndf": 4, "nz": 4},
    "patches": {"ngf": 4, "ndf": 4, "nz": 4},
    "small": {"ngf": 4, "ndf": 8, "nz": 4, "embedding": 8},
}


@pytest.fixture(scope="module", params=list(OPTIONS))
def model(request):
    return (
        GANomalyDetector(
            request.param,
            epochs=1,
            image_size=32,
            false_alarm_rate=0.2,
            method_options=OPTIONS[request.param],
        )
        .fit(textures(24, size=40))
        .model_
    )


def new_images(seed: int, n: int = 12):
    return open_training_images(textures(n, seed=seed, size=40))


def test_no_score_and_no_map_grows(model):
    updated = update_model(model, new_images(5)).model
    images = np.concatenate(
        [
            textures(12, seed=5, size=40),
            textures(8, seed=6, size=40),
            textures(8, seed=7, size=40, blob=True),
            255 - textures(4, seed=8, size=40),
        ]
    )
    before, after = (list(part.predict(open_images(images), details=True)) for part in (model, updated))
    scores = np.array([[prediction.score for prediction in part] for part in (before, after)])
    assert (scores[1] <= scores[0] * (1 + ROUNDING)).all()
    assert (scores[1] < scores[0] * 0.999).any()
    if model.preprocessing.scale is not None:  # the map of others is not made of the distances
        for first, second in zip(before, after, strict=True):
            assert (second.anomaly_map <= first.anomaly_map * (1 + ROUNDING) + ROUNDING).all()


def test_the_order_of_updates_does_not_matter(model):
    first, second = new_images(5), new_images(6)
    one, other = (
        update_model(update_model(model, a).model, b).model for a, b in ((first, second), (second, first))
    )
    both = update_model(
        model,
        open_training_images(np.concatenate([textures(12, seed=seed, size=40) for seed in (5, 6)])),
    ).model
    for name, value in one.method.state_dict().items():
        assert torch.equal(value, other.method.state_dict()[name]), name
        assert torch.equal(value, both.method.state_dict()[name]), name
    np.testing.assert_array_equal(one.calibration.scores, other.calibration.scores)
    assert (one.calibration.scores >= both.calibration.scores * (1 - ROUNDING)).all()
    updates = [[update["data_fingerprint"] for update in part.provenance["updates"]] for part in (one, other)]
    assert updates[0] == updates[1]


def test_an_updated_model_is_saved_and_loaded(model, tmp_path):
    result = update_model(model, new_images(5))
    assert result.added + result.in_banks == 12
    assert result.in_banks > 0
    assert result.model.provenance["updates"][0]["bank_images"] == result.in_banks
    for bank, old in zip(banks_of(result.model.method), banks_of(model.method), strict=True):
        assert len(bank.added) == result.in_banks * bank.rows_per_image
        assert len(old.added) == 0
    save_model(result.model, tmp_path / "m.safetensors")
    loaded = load_model(tmp_path / "m.safetensors")
    scores = [[p.score for p in part.predict(new_images(9))] for part in (loaded, result.model)]
    assert scores[0] == scores[1]


def test_full_banks_take_no_more_and_all_images_calibrate(model, monkeypatch):
    for bank in banks_of(model.method):
        monkeypatch.setattr(bank, "max_added", 2 * bank.rows_per_image, raising=False)
    result = update_model(model, new_images(5))
    assert result.banks_full
    assert (result.added, result.in_banks) == (12, 0)


def test_a_graph_of_an_updated_model_gives_its_scores(tmp_path):
    fitted = GANomalyDetector(
        "small", epochs=1, image_size=32, false_alarm_rate=0.2, method_options=OPTIONS["small"]
    ).fit(textures(24))
    updated = update_model(fitted.model_, open_training_images(textures(12, seed=5))).model
    export_model(updated, tmp_path / "m.onnx")
    images = open_images(textures(6, seed=9))
    scores = [
        [p.score for p in part.predict(images)] for part in (load_predictor(tmp_path / "m.onnx"), updated)
    ]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-3)


def _images(n: int, random: torch.Generator) -> torch.Tensor:
    return torch.randn(n, 3, generator=random) ** 3


def test_the_false_alarm_rate_is_at_most_the_one_asked_for():
    """300 lines, each updated three times; images are points, whose normal distribution has long tails."""
    rate, n_lines, n_new, alarms = 0.1, 300, 10, [0, 0]
    for line in range(n_lines):
        random = torch.Generator().manual_seed(line)
        bank = ImageMemoryBank(3, 3, whiten=False)
        bank.fit(_images(20, random))
        fitted = deepcopy(bank)
        calibration = [fitted(_images(19, random))]
        for _ in range(3):
            own = deepcopy(fitted)
            rows = own.rows_of(_images(15, random))
            own.add(rows)
            bank.add(rows)
            calibration.append(own(_images(15, random)))
        new = _images(n_new, random)
        scores = torch.cat(calibration).double().numpy()
        for number, part in enumerate((fitted, bank)):
            alarms[number] += int(Calibration(scores, rate).is_anomaly(part(new).double().numpy()).sum())
    assert alarms[1] <= binom.ppf(0.999, n_lines * n_new, rate)
    assert alarms[1] < alarms[0]  # without the images in the bank, the threshold would be too low
