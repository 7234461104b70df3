"""Training is seen in TensorBoard, MLflow and W&B, by the real packages and without a network."""

import json
import os
import struct
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest

from ganomaly import GANomalyDetector, TrainingError, UsageError
from ganomaly.loggers import open_loggers
from ganomaly.loggers.background import BackgroundLogger
from ganomaly.prediction.model_file import load_model
from images import textures, write_images
from shell import ganomaly

EPOCHS = 3
STEPS = (1, 2, 3)  # of an epoch each, as all images fit into a batch


class Recorder:
    """A logger that remembers what it was told."""

    def __init__(self):
        self.configuration, self.values, self.images, self.figures = {}, {}, {}, {}
        self.n_model_bytes = None

    def start(self, configuration):
        self.configuration = dict(configuration)

    def log(self, step, values, images):
        if values:
            self.values[step] = dict(values)
        self.images |= {(step, name): image for name, image in images.items()}

    def finish(self, figures, model):
        self.figures = dict(figures)
        self.n_model_bytes = None if model is None else model.stat().st_size


class Broken:
    """A logger whose every call fails."""

    def start(self, configuration):
        raise ConnectionError("no route to host")

    def log(self, step, values, images):
        raise AssertionError("not called after it has failed")

    def finish(self, figures, model):
        raise AssertionError("not called after it has failed")


def wandb_records(content: bytes) -> list[bytes]:
    """Records in a file of W&B: 7 bytes of its own, then the log format of LevelDB."""
    records, position, parts = [], 7, b""
    while position + 7 <= len(content):
        left_in_block = 2**15 - position % 2**15
        if left_in_block < 7:
            position += left_in_block
            continue
        length, kind = struct.unpack_from("<HB", content, position + 4)
        parts += content[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):  # a whole record, or the last part of one
            records.append(parts)
            parts = b""
    return records


def small_detector() -> GANomalyDetector:
    return GANomalyDetector(
        "paper", epochs=EPOCHS, false_alarm_rate=0.2, method_options={"ngf": 4, "ndf": 4, "nz": 8}
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of the command line that is logged to all three at once."""
    folder = tmp_path_factory.mktemp("logged")
    write_images(folder / "normal", textures(40))
    # a store of files, since making a database takes MLflow seconds
    offline = {"WANDB_MODE": "offline", "WANDB_DIR": str(folder), "MLFLOW_ALLOW_FILE_STORE": "true"}
    with mock.patch.dict(os.environ, offline):
        done = ganomaly(
            *("fit", folder / "normal", "--model", folder / "part.safetensors"),
            *("--preset", "paper", "--epochs", EPOCHS, "--false-alarm-rate", 0.2),
            *("--option", "ngf=4", "--option", "ndf=4", "--option", "nz=8"),
            *("--log", f"tensorboard:{folder / 'runs'}"),
            *("--log", f"mlflow:{(folder / 'mlruns').as_uri()}"),
            *("--log", "wandb:parts"),
        )
    assert done.returncode == 0, done.stderr
    return SimpleNamespace(folder=folder, done=done, model=load_model(folder / "part.safetensors"))


def test_nothing_is_warned_of_where_all_is_well(run):
    assert "Logger" not in run.done.stderr


def test_tensorboard_reads_losses_at_their_steps_images_and_figures(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = (run.folder / "runs").iterdir()
    events = EventAccumulator(str(folder), size_guidance={"images": 0})
    events.Reload()
    tags = events.Tags()
    assert [event.step for event in events.Scalars("loss/contextual")] == list(STEPS)
    assert all(event.value > 0 for event in events.Scalars("images_per_second"))
    (threshold,) = events.Scalars("final/threshold")
    assert threshold.step == EPOCHS
    assert threshold.value == pytest.approx(run.model.calibration.threshold)
    assert {"sample/1", "sample/4"} <= set(tags["images"])
    (last,) = events.Images("sample/1 with map")
    assert (last.step, last.height) == (EPOCHS, 32)
    assert last.width == 4 * 32  # image, reconstruction, difference, overlay
    assert (folder / "model.safetensors").read_bytes() == (run.folder / "part.safetensors").read_bytes()


def test_mlflow_reads_the_same_from_its_store(run, monkeypatch):
    from mlflow import MlflowClient

    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    client = MlflowClient(tracking_uri=(run.folder / "mlruns").as_uri())
    experiment = client.get_experiment_by_name("ganomaly")
    (logged,) = client.search_runs([experiment.experiment_id])
    assert logged.info.status == "FINISHED"
    assert logged.data.params["method_options.nz"] == "8"
    history = client.get_metric_history(logged.info.run_id, "loss/contextual")
    assert sorted(metric.step for metric in history) == list(STEPS)
    assert logged.data.metrics["final/threshold"] == pytest.approx(run.model.calibration.threshold)
    assert [file.path for file in client.list_artifacts(logged.info.run_id, "model")] == [
        "model/part.safetensors"
    ]
    assert client.list_artifacts(logged.info.run_id, "images")


def test_wandb_writes_the_same_offline(run):
    from wandb.proto import wandb_internal_pb2

    (file,) = run.folder.glob("wandb/offline-run-*/*.wandb")
    steps, names, configuration = [], set(), {}
    for data in wandb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        names.add(record.WhichOneof("record_type"))
        items = {"/".join(item.nested_key) or item.key: item.value_json for item in record.history.item}
        configuration |= {item.key: item.value_json for item in record.run.config.update}
        if "loss/contextual" in items:
            assert json.loads(items["loss/contextual"]) > 0
            steps.append(int(items["_step"]))
    assert steps == list(STEPS)
    assert configuration["method_options.nz"] == "8"
    assert {"summary", "artifact"} <= names
    assert list(file.parent.glob("files/media/images/**/*.png"))


def test_three_methods_are_enough_for_a_logger_in_python(normal_images):
    recorder = Recorder()
    detector = small_detector().fit(normal_images, loggers=[recorder])
    assert recorder.configuration["training.epochs"] == EPOCHS
    assert list(recorder.values) == list(STEPS)
    assert recorder.figures["threshold"] == -detector.offset_
    assert recorder.n_model_bytes > 0
    first, last = recorder.images[1, "sample/1"], recorder.images[EPOCHS, "sample/1 with map"]
    np.testing.assert_array_equal(first[:, :32], last[:, :32])  # the same image
    assert last.shape == (
        32,
        4 * 32,
        3,
    )  # reconstruction, difference, and with the finished model the overlay


def test_a_logger_that_fails_warns_once_and_changes_nothing(normal_images):
    expected = small_detector().fit(normal_images)
    recorder = Recorder()
    with pytest.warns(UserWarning, match="Broken failed and logs no more.*no route to host") as warned:
        detector = small_detector().fit(normal_images, loggers=[Broken(), recorder])
    assert len([each for each in warned if "Broken" in str(each.message)]) == 1
    np.testing.assert_array_equal(
        detector.anomaly_score(normal_images), expected.anomaly_score(normal_images)
    )
    assert list(recorder.values) == list(STEPS)


def test_a_failed_training_ends_the_run_without_a_model():
    recorder = Recorder()
    recorder.figures = None
    with pytest.raises(TrainingError, match="collapsed"):
        small_detector().fit(np.zeros((40, 32, 32), np.uint8) + 7, loggers=[recorder])
    assert (recorder.figures, recorder.n_model_bytes) == ({}, None)


def test_a_logger_that_hangs_loses_steps_and_is_given_up():
    released, warnings = threading.Event(), []
    hanging = mock.Mock(**{"start.side_effect": lambda _: released.wait(60)})
    logger = BackgroundLogger(hanging, warnings.append, waiting=2, finishing_seconds=0.05)
    try:
        logger.start({})
        for step in range(100):
            logger.log(step, {"loss": 1.0}, {})
        logger.finish({}, Path("model.safetensors"))
        assert len(warnings) == 1
        assert "slower than training" in warnings[0]
    finally:
        released.set()


@pytest.mark.parametrize("text", ["tensorboard", "tensorboard:", "comet:x", ":runs"])
def test_a_logger_that_is_not_known_is_refused_before_training(text):
    with pytest.raises(UsageError, match=r"write one of tensorboard:DIR, mlflow:URI, wandb:PROJECT"):
        open_loggers([text], "run")


@pytest.mark.parametrize("kind", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_named_with_its_extra(kind):
    with (
        mock.patch.dict(sys.modules, {kind: None}),
        pytest.raises(UsageError, match=rf"pip install 'ganomaly\[{kind}\]'"),
    ):
        open_loggers([f"{kind}:x"], "run")
