"""The largest images take a bounded amount of memory, and one that does not fit costs its own row."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ganomaly import GANomalyDetector
from ganomaly.data import open_images
from ganomaly.data.readers.decoding import decode_image
from ganomaly.errors import ImageError
from ganomaly.outputs import MapFolder
from ganomaly.prediction import Prediction, load_predictor, pytorch
from ganomaly.tensors import network_input
from shell import ganomaly

GIGABYTE = 1e9
SIDE = 13_000


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 MB that are free."""
    monkeypatch.setattr("ganomaly.data.large_images.available_memory", lambda: 10**8)
    monkeypatch.setattr("ganomaly.prediction.pytorch.available_memory", lambda: 10**8)


def rows(table: Path) -> list[dict[str, str]]:
    with table.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.skipif(sys.platform != "linux", reason="other systems count memory in another way")
def test_map_and_report_of_a_very_large_image_take_less_than_two_gigabytes(tmp_path, model_path):
    image = tmp_path / "large.png"
    board = Image.fromarray(((np.indices((1000, 1000)) // 50).sum(axis=0) % 2 * 200).astype(np.uint8))
    whole = Image.new("L", (SIDE, SIDE))
    for top in range(0, SIDE, 1000):
        for left in range(0, SIDE, 1000):
            whole.paste(board, (left, top))
    whole.save(image, compress_level=1)
    outputs = ["--out", tmp_path / "t.csv", "--maps", tmp_path / "maps", "--report", tmp_path / "r.html"]
    script = (
        "import runpy, sys; sys.argv[:] = sys.argv[1:]\n"
        "try: runpy.run_module('ganomaly', run_name='__main__', alter_sys=True)\n"
        # what getrusage says includes the process that started this one
        "finally: print([line for line in open('/proc/self/status') if line.startswith('VmHWM')][0])"
    )
    arguments = [sys.executable, "-c", script, "ganomaly", "score", *map(str, [model_path, image, *outputs])]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-2]) * 1024 < 2 * GIGABYTE
    assert decode_image(tmp_path / "maps" / "large.png").shape == (SIDE, SIDE, 1)


@pytest.mark.usefixtures("little_memory")
def test_an_image_that_does_not_fit_in_memory_costs_its_own_row(tmp_path, model_path, normal_folder):
    Image.new("L", (8000, 8000)).save(normal_folder / "large.bmp")
    done = ganomaly(
        "score", model_path, normal_folder, "--out", tmp_path / "t.csv", "--maps", tmp_path / "maps"
    )
    assert done.returncode == 3, done.stderr
    errors = {Path(row["path"]).name: row["error"] for row in rows(tmp_path / "t.csv") if row["error"]}
    assert list(errors) == ["large.bmp"]
    assert "does not fit into memory: it takes 0.1 GB, and 0.1 are free" in errors["large.bmp"]


@pytest.mark.parametrize("format_name", ["PNG", "TIFF", "WEBP"])
@pytest.mark.usefixtures("little_memory")
def test_every_format_is_refused_that_does_not_fit(tmp_path, format_name):
    path = tmp_path / "large"
    Image.new("RGB", (6000, 6000)).save(path, format_name)
    with pytest.raises(ImageError, match=r"^large does not fit into memory"):
        decode_image(path)


def test_a_map_that_does_not_fit_in_memory_costs_its_own_row(
    tmp_path, model_path, normal_folder, monkeypatch
):
    write = MapFolder.write

    def exhausted(self: MapFolder, prediction: Prediction, image: np.ndarray, *source: object) -> Path:
        if prediction.index == 3:
            raise MemoryError
        return write(self, prediction, image, *source)

    monkeypatch.setattr(MapFolder, "write", exhausted)
    done = ganomaly(
        "score", model_path, normal_folder, "--out", tmp_path / "t.csv", "--maps", tmp_path / "maps"
    )
    assert done.returncode == 3, done.stderr
    table = rows(tmp_path / "t.csv")
    assert [bool(row["error"]) for row in table] == [index == 3 for index in range(40)]
    assert "its map cannot be drawn: 003.png does not fit into memory" in table[3]["error"]
    assert table[3]["score"] == ""


def test_an_image_that_changes_before_its_map_is_drawn_costs_its_own_row(tmp_path, model_path, normal_folder):
    model = load_predictor(model_path)
    dataset = open_images(normal_folder)
    folder = MapFolder(tmp_path / "maps", model.map_calibration)
    predictions = list(model.predict(dataset, details=True))
    (normal_folder / "005.png").write_text("text")
    drawn = list(folder.draw_all(predictions, dataset, 255))
    assert [prediction.index for prediction in drawn if prediction.error] == [5]


def test_a_batch_that_does_not_fit_in_memory_is_predicted_image_by_image(
    normal_folder, model_path, monkeypatch
):
    dataset = open_images(normal_folder)
    expected = [prediction.score for prediction in load_predictor(model_path).predict(dataset)]
    outputs = pytorch._outputs

    def exhausted(method, x, *rest):
        if len(x) > 1 or (x == first).all():
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return outputs(method, x, *rest)

    image = dataset.read(0)[np.newaxis]
    first = network_input(image, 255, pytorch.choose_device("cpu"))
    monkeypatch.setattr(pytorch, "_outputs", exhausted)
    predictions = list(load_predictor(model_path).predict(dataset))
    assert "000.png does not fit into memory" in predictions[0].error
    np.testing.assert_allclose([p.score for p in predictions[1:]], expected[1:], rtol=1e-4)


@pytest.mark.usefixtures("little_memory")
def test_a_whole_image_that_does_not_fit_in_memory_is_an_error_of_its_own(tmp_path, normal_images):
    detector = GANomalyDetector(
        "patches", epochs=1, false_alarm_rate=0.1, method_options={"ngf": 4, "ndf": 4, "nz": 4}
    ).fit(normal_images[:20])
    detector.save(tmp_path / "m.safetensors")
    Image.new("L", (5000, 4000)).save(tmp_path / "large.bmp")
    (prediction,) = load_predictor(tmp_path / "m.safetensors").predict(open_images(tmp_path / "large.bmp"))
    assert "large.bmp does not fit into memory: the network would take 5000×4000 px" in prediction.error
