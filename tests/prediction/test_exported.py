"""An exported graph is refused in one sentence unless what it says of itself and what it computes fit each other."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from ganomaly import GANomalyDetector
from ganomaly.errors import GANomalyError, ModelFileError
from ganomaly.export import export_model
from model_files import with_graph_json, with_metadata, write_graph

DEEP = "[" * 200_000 + "]" * 200_000


@pytest.fixture(scope="module")
def graph(detector: GANomalyDetector, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("graph") / "model.onnx"
    export_model(detector.model_, path)
    return path


def refused(path: Path, *words: str) -> None:
    with pytest.raises(ModelFileError) as caught:
        GANomalyDetector.load(path)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path} ")
    assert "\n" not in sentence
    assert len(sentence) < 400
    for word in words:
        assert word in sentence


def test_a_graph_whose_checksum_was_computed_by_the_tests_loads(graph, tmp_path, anomalous_images):
    """Or what follows would be refused for its checksum alone."""
    copy = with_metadata(graph, tmp_path / "copy.onnx", {})
    np.testing.assert_array_equal(
        GANomalyDetector.load(copy).anomaly_score(anomalous_images),
        GANomalyDetector.load(graph).anomaly_score(anomalous_images),
    )


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"preset": ...}, ["preset is missing"]),
        ({"method": 3}, ["method"]),
        ({"false_alarm_rate": None}, ["false alarm rate"]),
        ({"false_alarm_rate": 1e308}, ["false alarm rate"]),
        ({"false_alarm_rate": -1}, ["false alarm rate"]),
        ({"options": []}, ["options"]),
        ({"options": {"nz": {"a": 1}}}, ["options nz"]),
        ({"preprocessing": None}, ["preprocessing"]),
        ({"preprocessing": {"image_size": 2**70, "channels": 1}}, ["image size"]),
        ({"preprocessing": {"image_size": 32, "channels": 3}}, ["1 channels of uint8", "3 of uint8"]),
        ({"preprocessing": {"image_size": 32, "channels": 1, "white_level": 4095}}, ["uint8", "uint16"]),
        ({"threshold": "high"}, ["threshold"]),
        ({"threshold": -1}, ["threshold"]),
        ({"calibration_scores": ...}, ["calibration scores is missing"]),
        ({"calibration_scores": []}, ["calibration scores"]),
        ({"calibration_scores": [[1.0, 2.0]]}, ["calibration scores 0"]),
        ({"calibration_scores": [1.0, None]}, ["calibration scores 1"]),
        ({"calibration_scores": [1.0, -2.0]}, ["calibration scores 1"]),
        ({"calibration_scores": [1.0, float("inf")]}, ["calibration scores 1"]),
        ({"calibration_scores": [1.0, 1.0]}, ["do not differ"]),
        ({"map_medians": [1.0]}, ["maps"]),
        ({"map_maxima": "many"}, ["map maxima"]),
        ({"checksum": "md5"}, ["checksum"]),
    ],
)
def test_a_wrong_value_in_the_header_gets_one_sentence_that_names_it(graph, tmp_path, edit, words):
    refused(with_graph_json(graph, tmp_path / "edited.onnx", edit), *words)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"model": DEEP}, ["recursion limit"]),
        ({"model": "[]"}, ["object"]),
        ({"model": "{"}, ["JSON"]),
        ({"provenance": DEEP}, ["recursion limit"]),
        ({"provenance": "3"}, ["provenance", "object"]),
        ({"provenance": '{"epochs": "many"}'}, ["epochs"]),
        ({"provenance": '"' + "x" * 2_000_000 + '"'}, ["too large"]),
        ({"format_version": "9" * 5000}, ["newer version"]),
        ({"format_version": "first"}, ["format version"]),
        ({"format": "other"}, ["did not write it"]),
    ],
)
def test_what_is_not_metadata_gets_one_sentence(graph, tmp_path, edit, words):
    refused(with_metadata(graph, tmp_path / "edited.onnx", edit), *words)


def test_a_graph_without_a_score_gets_one_sentence(graph, tmp_path):
    proto = onnx.load(graph)
    del proto.graph.output[0]
    refused(write_graph(tmp_path / "edited.onnx", proto), "score")


def test_a_graph_that_takes_no_images_gets_one_sentence(graph, tmp_path):
    proto = onnx.load(graph)
    for node in proto.graph.node:
        node.input[:] = ["photo" if name == "image" else name for name in node.input]
    proto.graph.input[0].name = "photo"
    refused(write_graph(tmp_path / "edited.onnx", proto), "takes no images")


def test_metadata_that_are_not_text_get_one_sentence(graph, tmp_path):
    content = graph.read_bytes().replace(b"ganomaly-graph", b"ganomaly-\xff\xfe\xfd\xfc\xfb")
    path = tmp_path / "edited.onnx"
    path.write_bytes(content[:-78])
    refused(path, "damaged")


def test_a_graph_that_cannot_be_run_gets_one_sentence(graph, tmp_path, anomalous_images):
    """It loads, since sizes are known only when images come."""
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    agraph (uint8[N, H, W, 1] image) => (float[N] score)
    <int64[1] shape = {7}> {
        pixels = Cast <to = 1> (image)
        score = Reshape (pixels, shape)
    }
    """
    proto = onnx.parser.parse_model(text)
    proto.metadata_props.extend(onnx.load(graph).metadata_props)
    path = write_graph(tmp_path / "edited.onnx", proto)
    with pytest.raises(GANomalyError, match="cannot be run on these images") as caught:
        GANomalyDetector.load(path).anomaly_score(anomalous_images)
    assert "\n" not in str(caught.value)


def test_a_graph_with_another_number_of_scores_gets_one_sentence(graph, tmp_path, anomalous_images):
    text = """
    <ir_version: 10, opset_import: ["" : 20]>
    agraph (uint8[N, H, W, 1] image) => (float[1] score)
    <int64[4] all = {0, 1, 2, 3}> {
        pixels = Cast <to = 1> (image)
        sum = ReduceSum <keepdims = 0> (pixels, all)
        score = Unsqueeze (sum, first)
    }
    """.replace("<int64[4]", "<int64[1] first = {0}, int64[4]")
    proto = onnx.parser.parse_model(text)
    proto.metadata_props.extend(onnx.load(graph).metadata_props)
    path = write_graph(tmp_path / "edited.onnx", proto)
    with pytest.raises(GANomalyError, match="score of shape"):
        GANomalyDetector.load(path).anomaly_score(anomalous_images)
