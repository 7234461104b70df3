"""The predictions of an exported graph are those of its model, and what it cannot predict is refused in words."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.calibration.conformal import ROUNDING
from ganomaly.errors import ModelFileError, UsageError
from ganomaly.export import export_model
from ganomaly.training.fit import calibration_images
from images import SMALL, textures
from model_files import with_metadata
from shell import ganomaly

METHODS = {
    "paper": {"ngf": 4, "ndf": 4},
    "small": {"ngf": 4, "ndf": 4, "nz": 8, "embedding": 8},
    "small-features": {"ngf": 4, "ndf": 4, "nz": 8, "embedding": 8},
    "features": {"ngf": 4, "ndf": 4, "nz": 4},
    "patches": {"ngf": 4, "ndf": 4, "nz": 4},
    "vae": {"ngf": 4},
    "egbad": {"ngf": 4, "ndf": 4},
    "skip-ganomaly": {"ngf": 4, "ndf": 4},
    "f-anogan": {"ngf": 4, "ndf": 4},
}


def session(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def assert_same_predictions(
    model: GANomalyDetector, graph: GANomalyDetector, images: NDArray[np.uint8]
) -> None:
    np.testing.assert_allclose(graph.anomaly_score(images), model.anomaly_score(images), rtol=1e-3)
    np.testing.assert_array_equal(graph.predict(images), model.predict(images))
    np.testing.assert_array_equal(graph.p_value(images), model.p_value(images))
    expected = model.anomaly_map(images[0])
    np.testing.assert_allclose(graph.anomaly_map(images[0]), expected, atol=1e-3 * np.ptp(expected))
    if model.model_.method_name == "feature-ganomaly":
        with pytest.raises(UsageError, match="does not reconstruct"):
            graph.reconstruct(images)
    else:
        assert np.abs(graph.reconstruct(images).astype(int) - model.reconstruct(images)).max() <= 1


@pytest.fixture(scope="module")
def exported(detector: GANomalyDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "textures.onnx"
    export_model(detector.model_, path)
    return path


def test_predictions_are_those_of_the_model(detector, exported, normal_images, anomalous_images):
    graph = GANomalyDetector.load(exported)
    images = np.concatenate([normal_images, anomalous_images])
    assert_same_predictions(detector, graph, images)
    assert len(set(graph.predict(images))) == 2, "the test needs both verdicts"


def test_a_graph_names_no_path_of_the_machine_that_made_it(exported):
    graph = onnx.load(exported)
    for initializer in graph.graph.initializer:
        initializer.ClearField("raw_data")  # any three letters may stand in weights
    content = graph.SerializeToString()
    assert re.search(rb"\.py\b", content) is None
    assert str(Path(__file__).parents[2]).encode() not in content


@pytest.mark.parametrize("preset", METHODS)
def test_every_exportable_method_predicts_the_same(preset, tmp_path):
    images = textures(30, size=44)
    model = GANomalyDetector(
        preset,
        epochs=1,
        image_size=32,
        false_alarm_rate=0.2,
        precision="fp32",
        method_options=METHODS[preset],
    ).fit(images)
    path = tmp_path / "model.onnx"
    export_model(model.model_, path)
    graph = GANomalyDetector.load(path)
    for side in (44, 61):
        assert_same_predictions(model, graph, textures(3, seed=9, size=side))
    for level in (0, 255):
        assert np.isfinite(graph.anomaly_score(np.full((1, 44, 44), level, np.uint8))).all()


def test_a_graph_holds_the_mirror_image_only_where_that_is_normal(tmp_path):
    images = textures(30)
    options = METHODS["small"]
    model = GANomalyDetector(
        "small", epochs=1, false_alarm_rate=0.2, precision="fp32", method_options=options
    )
    model.fit(images)
    n_convolutions = []
    for mirror in (False, True):
        model.model_.method.mirror.fill_(mirror)
        path = tmp_path / f"{mirror}.onnx"
        export_model(model.model_, path)
        assert_same_predictions(model, GANomalyDetector.load(path), textures(3, seed=9))
        n_convolutions.append(sum(node.op_type == "Conv" for node in onnx.load(path).graph.node))
    assert n_convolutions[0] < n_convolutions[1]


def test_16_bit_images_score_the_same(tmp_path):
    images = textures(30).astype(np.uint16) * 200
    model = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options=SMALL).fit(images)
    export_model(model.model_, tmp_path / "model.onnx")
    graph = GANomalyDetector.load(tmp_path / "model.onnx")
    np.testing.assert_allclose(graph.anomaly_score(images), model.anomaly_score(images), rtol=1e-3)


@pytest.fixture(scope="module")
def in_openvino(detector: GANomalyDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("openvino")
    path = tmp_path_factory.mktemp("openvino") / "textures.xml"
    export_model(detector.model_, path, "openvino")
    return path


def compiled(path: Path) -> Any:
    import openvino

    return openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})


def test_openvino_predicts_the_same_and_its_threshold_can_be_overridden(
    detector, in_openvino, normal_images, anomalous_images
):
    assert_same_predictions(
        detector, GANomalyDetector.load(in_openvino), np.concatenate([normal_images[:9], anomalous_images])
    )
    compiled_model = compiled(in_openvino)
    image = normal_images[:, :, :, None]
    score = compiled_model({"image": image})["score"]
    middle = np.array([np.median(score)], np.float32)
    verdict = compiled_model({"image": image, "threshold": middle})["is_anomaly"]
    np.testing.assert_array_equal(verdict, score > middle)
    calibrated = compiled_model({"image": image, "threshold": np.zeros(0, np.float32)})["is_anomaly"]
    np.testing.assert_array_equal(calibrated, detector.predict(normal_images) == -1)


REPORTS_NOTHING = """
import sys
import openvino_telemetry as telemetry
sent = []
for name in ("send_event", "send_error", "start_session"):
    setattr(telemetry.Telemetry, name, lambda *arguments, **_: sent.append(arguments))
import onnx
from pathlib import Path
from ganomaly.export.write import write_graph
from ganomaly.prediction import load_predictor
exported, graph = map(Path, sys.argv[1:])
write_graph(onnx.load(exported), graph, "openvino")
load_predictor(graph)
print(sent)
"""


def test_openvino_reports_to_nobody(exported, tmp_path):
    pytest.importorskip("openvino_telemetry")
    command = [sys.executable, "-c", REPORTS_NOTHING, exported, tmp_path / "g.xml"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


def test_openvino_resizes_wide_images_as_scoring_does(detector, in_openvino):
    """Beyond some 4,000 px, weights must not exceed the 32 bits in which OpenVINO computes."""
    random = np.random.default_rng(0)
    image = np.where(random.random((1, 40, 9000)) < 0.05, 20, 200).astype(np.uint8)
    score = compiled(in_openvino)({"image": image[..., None]})["score"]
    np.testing.assert_allclose(score, detector.anomaly_score(image), rtol=1e-3)


def test_openvino_predicts_odd_images_and_refuses_other_shapes(in_openvino):
    compiled_model = compiled(in_openvino)
    for level in (0, 255):
        for shape in ((1, 32, 32), (2, 1, 1), (1, 7, 300)):
            outputs = compiled_model({"image": np.full((*shape, 1), level, np.uint8)})
            assert np.isfinite(outputs["score"]).all()
            assert outputs["anomaly_map"].shape == shape
    assert len(compiled_model({"image": np.zeros((0, 32, 32, 1), np.uint8)})["score"]) == 0
    for wrong in ((1, 32, 32, 3), (32, 32, 1)):
        with pytest.raises(RuntimeError, match="incompatible"):
            compiled_model({"image": np.zeros(wrong, np.uint8)})


def test_the_graph_runs_without_this_package(detector, exported, anomalous_images):
    run = session(exported)
    names = [output.name for output in run.get_outputs()]
    assert names == ["score", "p_value", "is_anomaly", "anomaly_map", "reconstruction"]
    outputs = dict(zip(names, run.run(None, {"image": anomalous_images[..., None]}), strict=True))
    np.testing.assert_allclose(outputs["score"], detector.anomaly_score(anomalous_images), rtol=1e-3)
    np.testing.assert_array_equal(outputs["is_anomaly"], detector.predict(anomalous_images) == -1)
    np.testing.assert_allclose(outputs["p_value"], detector.p_value(anomalous_images), rtol=1e-6)
    assert outputs["anomaly_map"].shape == (12, 32, 32)
    assert outputs["reconstruction"].dtype == np.uint8


def test_the_threshold_can_be_overridden(exported, normal_images):
    run, image = session(exported), normal_images[:, :, :, None]
    score = run.run(["score"], {"image": image})[0]
    middle = np.array([np.median(score)], np.float32)
    verdict = run.run(["is_anomaly"], {"image": image, "threshold": middle})[0]
    np.testing.assert_array_equal(verdict, score > middle)


def test_the_score_of_an_image_does_not_depend_on_its_batch(exported, normal_images):
    run, image = session(exported), normal_images[:, :, :, None]
    together = run.run(["score"], {"image": image})[0]
    alone = [run.run(["score"], {"image": one[None]})[0][0] for one in image]
    np.testing.assert_allclose(alone, together, rtol=1e-5)


@pytest.mark.parametrize("level", [0, 255])
@pytest.mark.parametrize("shape", [(1, 32, 32), (2, 1, 1), (1, 7, 300)])
def test_extreme_images_get_a_finite_score(exported, level, shape):
    score, p_value = session(exported).run(
        ["score", "p_value"], {"image": np.full((*shape, 1), level, np.uint8)}
    )
    assert np.isfinite(score).all()
    assert ((p_value > 0) & (p_value <= 1)).all()


def test_an_empty_batch_gives_empty_outputs(exported):
    outputs = session(exported).run(None, {"image": np.zeros((0, 32, 32, 1), np.uint8)})
    assert [len(output) for output in outputs] == [0] * 5


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((1, 32, 32, 3), np.uint8), "invalid dimensions"),
        (np.zeros((32, 32, 1), np.uint8), "Invalid rank"),
        (np.zeros((1, 32, 32, 1), np.float32), "Unexpected input data type"),
    ],
)
def test_images_of_another_shape_or_type_are_refused_in_words(exported, image, words):
    with pytest.raises(Exception, match=f"(?i){words}"):
        session(exported).run(None, {"image": image})


def test_the_graph_has_provenance_and_options(detector, exported):
    metadata = session(exported).get_modelmeta().custom_metadata_map
    assert json.loads(metadata["provenance"]) == detector.model_.provenance
    assert json.loads(metadata["model"])["method"] == "ganomaly"


def test_a_foreign_graph_is_refused_in_words(exported, tmp_path):
    proto = onnx.load(exported)
    del proto.metadata_props[:]
    onnx.save(proto, tmp_path / "foreign.onnx")
    with pytest.raises(ModelFileError, match="did not write it"):
        GANomalyDetector.load(tmp_path / "foreign.onnx")
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino.convert_model(tmp_path / "foreign.onnx"), tmp_path / "foreign.xml")
    with pytest.raises(ModelFileError, match="did not write it"):
        GANomalyDetector.load(tmp_path / "foreign.xml")


def test_a_newer_format_is_refused_in_words(exported, tmp_path):
    newer = with_metadata(exported, tmp_path / "newer.onnx", {"format_version": "99"})
    with pytest.raises(ModelFileError, match="upgrade ganomaly"):
        GANomalyDetector.load(newer)


@pytest.mark.parametrize("size", [0, 1000])
def test_a_truncated_graph_is_refused_in_words(exported, tmp_path, size):
    path = tmp_path / "short.onnx"
    path.write_bytes(exported.read_bytes()[:size])
    with pytest.raises(ModelFileError, match="damaged"):
        GANomalyDetector.load(path)


def test_an_exported_model_is_not_saved_as_another(exported, tmp_path):
    with pytest.raises(UsageError, match="exported graph"):
        GANomalyDetector.load(exported).save(tmp_path / "model.safetensors")


def test_a_method_that_searches_is_refused_in_words(tmp_path):
    model = GANomalyDetector(
        "anogan", epochs=1, method_options={**SMALL, "search_steps": 1}, false_alarm_rate=0.2
    ).fit(textures(30))
    with pytest.raises(UsageError, match="searches by gradients"):
        export_model(model.model_, tmp_path / "model.onnx")


def test_from_the_command_line(model_path, normal_folder, tmp_path):
    graph, by_graph, by_model = tmp_path / "model.onnx", tmp_path / "graph.csv", tmp_path / "model.csv"
    assert ganomaly("export", model_path, "--format", "onnx", "--out", graph).returncode == 0
    Image.fromarray(np.zeros((50, 40, 3), np.uint8)).save(normal_folder / "colour.png")
    (normal_folder / "broken.png").write_bytes(b"broken")
    for model, table in ((graph, by_graph), (model_path, by_model)):
        done = ganomaly(
            "score", model, normal_folder, "--out", table, "--maps", tmp_path / f"{table.stem}_maps"
        )
        assert done.returncode == 3, done.stderr
    ours, theirs = by_model.read_text().splitlines(), by_graph.read_text().splitlines()
    assert len(ours) == len(theirs) == 43
    for one, other in zip(ours[1:], theirs[1:], strict=True):
        (path, score, _, *rest), (path_2, score_2, _, *rest_2) = one.split(","), other.split(",")
        assert (path, rest) == (path_2, rest_2)
        if score:
            assert float(score_2) == pytest.approx(float(score), rel=1e-3)
    maps = [
        sorted(path.name for path in (tmp_path / f"{name}_maps").iterdir()) for name in ("graph", "model")
    ]
    assert maps[0] == maps[1]
    infos = [json.loads(ganomaly("info", path, "--json").stdout) for path in (graph, model_path)]
    for info in infos:
        info.pop("file"), info.pop("parameters")
    assert infos[0] == infos[1]
    assert ganomaly("export", model_path, "--out", tmp_path / "model.txt").returncode == 2


def test_an_8_bit_graph_is_calibrated_anew_and_its_auroc_is_reported(labelled_folder, tmp_path):
    model, fp32, int8 = (tmp_path / name for name in ("m.safetensors", "fp32.onnx", "int8.onnx"))
    fitted = ganomaly("fit", labelled_folder, "--model", model, "--preset", "paper", "--epochs", 3)
    assert fitted.returncode == 0, fitted.stderr
    export_model(GANomalyDetector.load(model).model_, fp32)
    done = ganomaly("export", model, "--out", int8, "--int8", "--data", labelled_folder)
    assert done.returncode == 0, done.stderr
    assert "in 8 bits" in done.stderr
    assert int8.stat().st_size < fp32.stat().st_size / 2

    before, after = GANomalyDetector.load(fp32), GANomalyDetector.load(int8)
    images = textures(20, seed=6, blob=True)
    ratio = after.anomaly_score(images) / before.anomaly_score(images)
    assert (ratio != 1).any()
    assert np.abs(np.log(ratio)).max() < 0.5
    calibration_set = calibration_images(GANomalyDetector.load(model).model_, labelled_folder)
    scores = [prediction.score for prediction in after.model_.predict(calibration_set)]
    # raised for rounding, as when a model is calibrated
    np.testing.assert_allclose(after.model_.calibration.scores, np.sort(scores) * (1 + ROUNDING), rtol=1e-6)


def test_8_bits_need_the_data_that_the_model_was_fitted_on(model_path, labelled_folder, tmp_path):
    out = tmp_path / "int8.onnx"
    other = ganomaly("export", model_path, "--out", out, "--int8", "--data", labelled_folder)
    assert (other.returncode, "does not hold the images" in other.stderr) == (2, True)
    assert ganomaly("export", model_path, "--out", out, "--int8").returncode == 2
    assert not out.exists()
