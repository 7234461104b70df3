"""Same image, same score; whatever other images are scored with it."""

import subprocess
import sys
import threading
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from ganomaly import GANomalyDetector, TrainingError
from ganomaly.calibration import ROUNDING
from ganomaly.config import FitOptions
from ganomaly.data import open_images
from ganomaly.devices import full_precision
from ganomaly.prediction.model_file import load_model
from ganomaly.prediction.pytorch import predict_dataset
from ganomaly.training.fit import calibration_images, fit_model
from images import SMALL


def scores(model, images, **options) -> np.ndarray:
    found = predict_dataset(model.method, model.preprocessing, open_images(images), **options)
    return np.array([scored.score for scored in found])


@pytest.fixture(scope="module")
def model(model_path):
    return load_model(model_path)


@pytest.fixture(scope="module")
def mixed_images(normal_images, anomalous_images):
    return np.concatenate([normal_images, anomalous_images])


def test_batch_1_and_batch_64_agree(model, mixed_images):
    np.testing.assert_allclose(
        scores(model, mixed_images, batch_size=64), scores(model, mixed_images, batch_size=1), rtol=1e-5
    )


@pytest.mark.parametrize("threads", [2, 3])
def test_batches_side_by_side_come_in_order_with_the_same_numbers(model, mixed_images, threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = scores(model, mixed_images, batch_size=4)
        torch.set_num_threads(threads)
        side_by_side = scores(model, mixed_images, batch_size=4)
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(side_by_side, alone)


def test_whoever_stops_looking_at_scores_leaves_no_thread(model, mixed_images):
    before = threading.active_count()
    found = predict_dataset(model.method, model.preprocessing, open_images(mixed_images), batch_size=4)
    assert next(found).index == 0
    found.close()
    assert threading.active_count() == before


def test_between_two_scores_the_caller_may_compute_gradients(model, mixed_images):
    for _ in predict_dataset(model.method, model.preprocessing, open_images(mixed_images), batch_size=4):
        assert torch.ones(1, requires_grad=True).mul(2).requires_grad
        assert not torch.is_inference_mode_enabled()


def test_the_score_does_not_depend_on_neighbours_or_order(model, mixed_images):
    everything = scores(model, mixed_images)
    np.testing.assert_allclose(scores(model, mixed_images[::-1])[::-1], everything, rtol=1e-5)
    np.testing.assert_allclose(scores(model, mixed_images[7:8]), everything[7:8], rtol=1e-5)
    among_white = np.concatenate([mixed_images[7:8], np.full((30, 32, 32), 255, np.uint8)])
    np.testing.assert_allclose(scores(model, among_white)[:1], everything[7:8], rtol=1e-5)


def test_two_runs_of_scoring_give_the_same_numbers(model, mixed_images):
    np.testing.assert_array_equal(scores(model, mixed_images), scores(model, mixed_images))


def test_a_process_of_its_own_gives_the_same_numbers(model_path, model, mixed_images, tmp_path):
    np.save(tmp_path / "images.npy", mixed_images)
    program = (
        "import sys, numpy as np; from ganomaly import GANomalyDetector; "
        "print(repr(GANomalyDetector.load(sys.argv[1]).anomaly_score(np.load(sys.argv[2])).tolist()))"
    )
    printed = subprocess.run(
        [sys.executable, "-c", program, str(model_path), str(tmp_path / "images.npy")],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert [float(number) for number in printed.strip("[]\n").split(",")] == pytest.approx(
        scores(model, mixed_images).tolist(), rel=1e-5
    )


def test_scoring_leaves_the_model_as_it_was(model, mixed_images):
    """Batch-norm statistics must not learn from the images being scored."""
    before = {name: tensor.clone() for name, tensor in model.method.state_dict().items()}
    scores(model, mixed_images)
    for name, tensor in model.method.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} changed"
    assert not model.method.training


def test_a_method_in_training_mode_is_scored_in_eval_mode_and_put_back(model, mixed_images):
    expected = scores(model, mixed_images)
    model.method.train()
    try:
        np.testing.assert_array_equal(scores(model, mixed_images), expected)
        assert model.method.training
    finally:
        model.method.eval()


def test_threshold_and_p_values_do_not_depend_on_what_is_scored(detector, normal_images, anomalous_images):
    threshold = -detector.offset_
    alone = detector.p_value(anomalous_images[:1])
    among = detector.p_value(np.concatenate([anomalous_images[:1], normal_images]))
    assert alone[0] == among[0]
    assert -detector.offset_ == threshold


def test_the_test_set_s_labels_and_size_do_not_reach_the_scores(model, mixed_images):
    """A single image has the score it has among thousands: there is no min–max over the test set."""
    assert scores(model, mixed_images[-1:])[0] == pytest.approx(scores(model, mixed_images)[-1], rel=1e-5)


def test_broken_weights_are_said(model, mixed_images):
    weight = model.method.encoder.latent.weight
    before = weight.detach().clone()
    weight.data.fill_(float("nan"))
    try:
        with pytest.raises(TrainingError, match="not a number"):
            scores(model, mixed_images)
    finally:
        weight.data.copy_(before)


def test_a_score_that_is_no_number_costs_its_own_row_only(model, mixed_images, monkeypatch):
    predict = model.method.predict

    def predict_nan(x):
        prediction = predict(x)
        score = prediction.score.clone()
        score[3] = torch.nan
        return replace(prediction, score=score)

    monkeypatch.setattr(model.method, "predict", predict_nan)
    predictions = list(predict_dataset(model.method, model.preprocessing, open_images(mixed_images[:10])))
    assert [each.error is None for each in predictions] == [number != 3 for number in range(10)]
    assert predictions[3].score is None
    assert "not a number" in predictions[3].error


def test_an_unreadable_image_costs_its_own_score_only(detector, tmp_path, normal_folder):
    broken = tmp_path / "broken.png"
    broken.write_text("this is not an image")
    good = sorted(normal_folder.iterdir())[:3]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = detector.anomaly_score([good[0], broken, *good[1:]])
    assert np.isnan(found).tolist() == [False, True, False, False]
    assert any("broken.png" in str(warning.message) for warning in caught)
    np.testing.assert_allclose(found[[0, 2, 3]], detector.anomaly_score(good), rtol=1e-5)


def test_a_detector_in_bf16_training_scores_in_fp32(normal_images):
    detector = GANomalyDetector(
        "paper",
        epochs=1,
        precision="bf16",
        false_alarm_rate=0.2,
        method_options={"ngf": 4, "ndf": 4, "nz": 8},
    ).fit(normal_images)
    model = detector.model_
    np.testing.assert_allclose(
        scores(model, normal_images, batch_size=1), scores(model, normal_images, batch_size=60), rtol=1e-5
    )


def test_on_a_gpu_full_precision_lasts_until_the_last_one_leaves():
    cudnn = torch.backends.cudnn
    before = cudnn.allow_tf32
    cudnn.allow_tf32 = True
    try:
        one, other = (full_precision(torch.device("cuda")) for _ in range(2))
        with one:
            other.__enter__()
            assert not cudnn.allow_tf32
        assert not cudnn.allow_tf32
        other.__exit__(None, None, None)
        assert cudnn.allow_tf32
        with full_precision(torch.device("cpu")):
            assert cudnn.allow_tf32
    finally:
        cudnn.allow_tf32 = before


def test_fit_calibrates_with_the_loop_that_scores(normal_images):
    """The scores that calibrate are those that the model gives the same images, but for the margin for rounding."""
    options = FitOptions(preset="paper", epochs=1, false_alarm_rate=0.2, method_options=SMALL)
    model = fit_model(normal_images, options).model
    predictions = list(model.predict(calibration_images(model, normal_images)))
    again = np.sort([prediction.score for prediction in predictions]) * (1 + ROUNDING)
    np.testing.assert_allclose(model.calibration.scores, again, rtol=1e-7)
    assert all(not prediction.is_anomaly for prediction in predictions if prediction.p_value > 0.2)


def test_p_value_and_verdict_are_those_of_the_calibration(model, mixed_images):
    predictions = list(model.predict(open_images(mixed_images)))
    calibration = model.calibration
    for prediction in predictions:
        assert prediction.p_value == calibration.p_value(prediction.score)
        assert prediction.is_anomaly == (prediction.score > calibration.threshold)
        assert prediction.is_anomaly == (prediction.p_value <= calibration.attained_rate)
    without = list(predict_dataset(model.method, model.preprocessing, open_images(mixed_images[:3])))
    assert [each.score for each in without] == pytest.approx(
        [each.score for each in predictions[:3]], rel=1e-5
    )
    assert {(each.p_value, each.is_anomaly) for each in without} == {(None, None)}
