"""One model of several products tells them apart, and keeps the statistics and the false-alarm rate of each."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganomaly import GANomalyDetector
from ganomaly.data import open_images, open_training_images
from ganomaly.data.products import product_indices
from ganomaly.errors import DataError, ModelFileError, UsageError
from ganomaly.export.graph import InferenceGraph
from ganomaly.export.write import metadata_of
from ganomaly.methods.products import ProductMethods
from ganomaly.prediction import exported
from ganomaly.prediction.exported import OUTPUTS
from ganomaly.prediction.model_file import load_model
from ganomaly.training.update import update_model
from images import textures, write_images
from model_files import read_model_file, write_model_file
from shell import ganomaly

OPTIONS = {
    "patches": {"ngf": 4, "ndf": 4, "nz": 4},
    "small": {"ngf": 4, "ndf": 8, "nz": 4, "embedding": 8},
}
EPOCHS = {"patches": 1, "small": 3}


def stripes(n: int, seed: int = 0, **options) -> np.ndarray:
    """The second product: the stripes of the first one, across and with less contrast."""
    return np.ascontiguousarray((128 + textures(n, seed, **options) // 4).transpose(0, 2, 1))


def both(n: int, seed: int = 0, **options) -> np.ndarray:
    return np.concatenate([textures(n, seed, **options), stripes(n, seed + 50, **options)])


def labels(n: int) -> list[str]:
    return ["bolt"] * n + ["nut"] * n


@pytest.fixture(scope="module", params=list(OPTIONS))
def detector(request):
    return GANomalyDetector(
        request.param,
        epochs=EPOCHS[request.param],
        image_size=32,
        false_alarm_rate=0.2,
        method_options=OPTIONS[request.param],
    ).fit(both(30), products=labels(30))


def test_each_image_is_predicted_with_the_statistics_of_the_product_that_fits_best(detector):
    method = detector.model_.method
    assert isinstance(method, ProductMethods)
    images = both(6, seed=7)
    scores = np.stack([_scores(detector, part, images) for part in method.of_products()])
    relative = scores / method.thresholds.numpy()[:, None]
    np.testing.assert_allclose(detector.anomaly_score(images), relative.min(axis=0), rtol=1e-5)
    names = np.array(method.names)[relative.argmin(axis=0)]
    np.testing.assert_array_equal(detector.product(images), names)
    assert (names == labels(6)).mean() > 0.8
    assert detector.offset_ == -1
    calibrations = detector.model_.calibration.products
    p_values = [
        float(calibrations[name].p_value(score))
        for name, score in zip(names, relative.min(axis=0), strict=True)
    ]
    np.testing.assert_allclose(detector.p_value(images), p_values)


def _scores(detector, method, images):
    from ganomaly.prediction.pytorch import predict_dataset

    predictions = predict_dataset(method, detector.model_.preprocessing, open_images(images))
    return np.array([prediction.score for prediction in predictions])


def test_products_share_their_weights_and_nothing_else(detector):
    first, second = detector.model_.method.of_products()
    for one, other in zip(first.parameters(), second.parameters(), strict=True):
        assert one.data_ptr() == other.data_ptr()
    different = {
        name
        for name, tensor in first.state_dict().items()
        if not torch.equal(tensor, second.state_dict()[name])
    }
    assert bool(different) == (detector.preset != "paper")


def test_an_alarm_is_an_alarm_for_every_product(detector):
    """So the false-alarm rate of a product is at most that of its own threshold, whatever product is picked."""
    images = both(8, seed=9)
    for part, threshold in zip(
        detector.model_.method.of_products(), detector.model_.method.thresholds, strict=True
    ):
        alarms = detector.predict(images) == -1
        assert (_scores(detector, part, images)[alarms] > float(threshold)).all()


def test_another_false_alarm_rate_holds_for_each_product(detector):
    calibration = replace(detector.model_.calibration, false_alarm_rate=0.4)
    thresholds = [part.threshold for part in calibration.products.values()]
    assert calibration.threshold == max(thresholds) < 1
    assert detector.model_.calibration.threshold == 1
    predictions = replace(detector.model_, calibration=calibration).predict(open_images(both(8, seed=9)))
    for prediction in predictions:
        assert prediction.is_anomaly == (prediction.score > max(thresholds))


def test_a_saved_model_predicts_the_same(detector, tmp_path):
    detector.save(tmp_path / "m.safetensors")
    loaded = GANomalyDetector.load(tmp_path / "m.safetensors")
    images = both(3, seed=7)
    np.testing.assert_array_equal(loaded.anomaly_score(images), detector.anomaly_score(images))
    np.testing.assert_array_equal(loaded.p_value(images), detector.p_value(images))
    np.testing.assert_array_equal(loaded.product(images), detector.product(images))
    np.testing.assert_array_equal(loaded.anomaly_map(images[0]), detector.anomaly_map(images[0]))
    one, other = loaded.model_.method.of_products()
    assert next(one.parameters()).data_ptr() == next(other.parameters()).data_ptr()


def test_a_damaged_file_is_refused(tmp_path):
    detector = GANomalyDetector("small", epochs=1, false_alarm_rate=0.2, method_options=OPTIONS["small"])
    detector.fit(both(20), products=labels(20)).save(tmp_path / "m.safetensors")
    metadata, tensors = read_model_file(tmp_path / "m.safetensors")
    header = json.loads(metadata["model"])
    changes = [
        (header | {"products": ["bolt"]}, {}, "products"),
        (header | {"products": ["bolt", "bolt"]}, {}, "one name"),
        (header | {"products": ["a", "b", "c"]}, {}, "products/2/scores is missing"),
        (header, {"products/1/scores": torch.tensor([-1.0, 2.0], dtype=torch.float64)}, "calibration scores"),
        (header, {"products/thresholds": torch.tensor([0.0, 1.0])}, "thresholds"),
        (header, {"products/9/other": torch.tensor([0.0, 1.0])}, "belongs to no model"),
    ]
    for new_header, new_tensors, message in changes:
        path = write_model_file(
            tmp_path / "x.safetensors", metadata | {"model": json.dumps(new_header)}, tensors | new_tensors
        )
        with pytest.raises(ModelFileError, match=message):
            load_model(path)


def test_a_model_of_several_products_is_not_updated(detector):
    with pytest.raises(UsageError, match="several products is not updated"):
        update_model(detector.model_, open_training_images(both(5, seed=3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("products")
    write_images(root / "data/train/good/bolt", textures(30))
    write_images(root / "data/train/good/nut", stripes(30))
    write_images(root / "data/test/good", both(5, seed=3))
    write_images(root / "data/test/crack", textures(5, seed=4, blob=True))
    return root


def test_the_shell_fits_products_from_folders_and_names_them_in_a_last_column(folder):
    model, out = folder / "m.safetensors", folder / "s.csv"
    small = [word for name, value in OPTIONS["small"].items() for word in ("--option", f"{name}={value}")]
    done = ganomaly(
        *("fit", folder / "data", "--model", model, "--preset", "small", "--epochs", 2, "--products"),
        *("--false-alarm-rate", 0.2, *small),
    )
    assert done.returncode == 0, done.stderr
    assert "2 products: bolt (30), nut (30)" in " ".join(done.stderr.split())
    done = ganomaly(
        "score",
        model,
        folder / "data/test",
        "--out",
        out,
        "--maps",
        folder / "maps",
        "--report",
        folder / "r.html",
    )
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader(out.open()))
    assert list(rows[0]) == ["path", "score", "normalized_score", "p_value", "is_anomaly", "error", "product"]
    assert {row["product"] for row in rows} <= {"bolt", "nut"}
    description = json.loads(ganomaly("info", model, "--json").stdout)
    assert set(description["products"]) == {"bolt", "nut"}
    assert description["calibration"]["threshold"] == 1
    assert ganomaly("evaluate", model, folder / "data").returncode == 0


def test_products_are_named_by_their_folders(folder):
    for data in (folder / "data", folder / "data/train/good"):
        indices = product_indices(open_training_images(data), "folders")
        assert {name: len(part) for name, part in indices.items()} == {"bolt": 30, "nut": 30}


@pytest.mark.parametrize(
    ("products", "error", "message"),
    [
        (["a", "b"], UsageError, "2 products for 4 images"),
        (["a"] * 4, DataError, "only a"),
        (["a", "a", "b", ""], UsageError, "is no name"),
        ("folders", DataError, "has no label"),
    ],
)
def test_labels_that_name_no_products_are_refused(products, error, message):
    with pytest.raises(error, match=message):
        product_indices(open_training_images(textures(4)), products)


def test_a_product_with_too_few_images_is_named():
    with pytest.raises(DataError, match="product nut: found 5 normal images"):
        GANomalyDetector("small", epochs=1, method_options=OPTIONS["small"]).fit(
            both(20)[:25], products=labels(20)[:25]
        )


def test_a_method_without_statistics_is_refused():
    with pytest.raises(UsageError, match="has no statistics of normal images"):
        GANomalyDetector("paper", epochs=1).fit(both(20), products=labels(20))


class GraphInPyTorch:
    """A graph before it is exported, and the metadata that it gets; exporting two products takes half a minute."""

    def __init__(self, model) -> None:
        self.graph, self.metadata = InferenceGraph(model), metadata_of(model)
        self.outputs, self.image_type = OUTPUTS, ("uint8", 1)

    def run(self, image: np.ndarray) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            outputs = self.graph.predict(torch.from_numpy(image), torch.tensor([1.0]))
        return {name: value.numpy() for name, value in outputs.items()}


@pytest.mark.parametrize("detector", ["small"], indirect=True)
def test_a_graph_predicts_the_same_products(detector, monkeypatch, tmp_path):
    (tmp_path / "m.onnx").touch()
    graph = GraphInPyTorch(detector.model_)
    monkeypatch.setattr(exported, "_OnnxGraph", lambda path: graph)
    monkeypatch.setattr(exported, "check_checksum", lambda path: True)
    loaded = GANomalyDetector.load(tmp_path / "m.onnx")
    images = both(6, seed=7)
    np.testing.assert_array_equal(loaded.product(images), detector.product(images))
    np.testing.assert_allclose(loaded.anomaly_score(images), detector.anomaly_score(images), rtol=1e-3)
    np.testing.assert_array_equal(loaded.p_value(images), detector.p_value(images))
    expected = detector.anomaly_map(images[0])
    np.testing.assert_allclose(loaded.anomaly_map(images[0]), expected, rtol=1e-3, atol=1e-4)
    size = detector.model_.preprocessing.image_size
    outputs = graph.run(images[..., None])
    assert images.shape[1:] == (size, size)
    np.testing.assert_allclose(outputs["p_value"], detector.p_value(images), rtol=1e-5)
    np.testing.assert_array_equal(outputs["is_anomaly"], detector.predict(images) == -1)
