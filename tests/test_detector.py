"""The Python interface follows scikit-learn's conventions."""

import copy
import multiprocessing
import pickle
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ganomaly import DataError, GANomalyDetector, ImageError, UsageError
from ganomaly.config import FitOptions, TrainingOptions
from ganomaly.data import inspect_images, open_training_images
from ganomaly.detector import GANomalyDetector as Detector
from ganomaly.methods.contrastive_ganomaly import ContrastiveGANomaly
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.training.fit import fit_model
from ganomaly.training.observers import SilentObserver
from ganomaly.training.plan import suggested_preset
from images import SMALL, textures, write_images


def test_importing_the_package_does_not_import_torch():
    program = "import sys, ganomaly; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_clone_and_parameters_follow_scikit_learn():
    detector = GANomalyDetector(preset="paper", seed=7, method_options={"nz": 9})
    twin = clone(detector)
    assert twin is not detector
    assert twin.get_params() == detector.get_params()
    assert twin.set_params(seed=8, epochs=2) is twin
    assert (twin.seed, twin.epochs, detector.seed) == (8, 2, 7)
    with pytest.raises(ValueError, match="Invalid parameter"):
        twin.set_params(nonsense=1)


def test_the_constructor_only_stores():
    detector = GANomalyDetector(preset="no such preset", epochs=-3)
    assert (detector.preset, detector.epochs) == ("no such preset", -3)


def copied_through_another_process(detector: GANomalyDetector) -> GANomalyDetector:
    """Pickle a detector into a new process, clone it there, and pickle the clone back."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(clone, (detector,))


@pytest.mark.parametrize(
    "copied",
    [
        copy.copy,
        copy.deepcopy,
        clone,
        lambda detector: pickle.loads(pickle.dumps(detector)),
        copied_through_another_process,
    ],
    ids=["copy", "deepcopy", "clone", "pickle", "process"],
)
def test_an_unfitted_detector_can_be_copied(copied):
    detector = GANomalyDetector("paper", epochs=3, seed=7, method_options={"nz": 9})
    twin = copied(detector)
    assert type(twin) is GANomalyDetector
    assert twin is not detector
    assert twin.get_params() == detector.get_params()
    twin.set_params(seed=8)
    assert detector.seed == 7


def test_a_deep_copy_has_options_of_its_own():
    detector = GANomalyDetector(method_options={"nz": 9})
    copy.deepcopy(detector).method_options["nz"] = 10
    assert detector.method_options == {"nz": 9}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_a_copy_of_a_fitted_detector_predicts_the_same(detector, anomalous_images, copied):
    twin = copied(detector)
    assert twin is not detector
    np.testing.assert_array_equal(
        twin.anomaly_score(anomalous_images), detector.anomaly_score(anomalous_images)
    )


def test_fitting_a_copy_leaves_the_original_as_it_was(detector, normal_images, anomalous_images):
    expected = detector.anomaly_score(anomalous_images)
    copy.deepcopy(detector).set_params(epochs=1, seed=11).fit(normal_images)
    np.testing.assert_array_equal(detector.anomaly_score(anomalous_images), expected)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_fitted_detector_refuses_to_be_pickled(detector, protocol):
    for fitted in (detector, copy.copy(detector), copy.deepcopy(detector)):
        with pytest.raises(TypeError, match=r"loading a pickle runs code; use detector\.save"):
            pickle.dumps(fitted, protocol)


def test_a_clone_of_a_fitted_detector_is_unfitted_and_can_be_pickled(detector):
    twin = pickle.loads(pickle.dumps(clone(detector)))
    assert not hasattr(twin, "model_")
    assert twin.get_params() == detector.get_params()


def test_fit_returns_the_detector_itself(normal_images):
    detector = GANomalyDetector(
        "paper", epochs=1, false_alarm_rate=0.2, method_options={"ngf": 4, "ndf": 4, "nz": 8}
    )
    assert detector.fit(normal_images) is detector


def test_scores_decisions_and_predictions_agree(detector, normal_images, anomalous_images):
    images = np.concatenate([normal_images[:8], anomalous_images])
    score = detector.anomaly_score(images)
    np.testing.assert_array_equal(detector.score_samples(images), -score)
    np.testing.assert_allclose(detector.decision_function(images), -detector.offset_ - score)
    np.testing.assert_array_equal(detector.predict(images), np.where(score > -detector.offset_, -1, 1))
    np.testing.assert_array_equal(detector.predict(images) == -1, detector.p_value(images) <= 0.1)


def test_verdicts_before_fit_are_refused():
    with pytest.raises(NotFittedError, match="call fit"):
        GANomalyDetector().predict(np.zeros((2, 32, 32), np.uint8))


def test_a_map_has_the_size_of_the_user_s_image(detector):
    image = np.random.default_rng(0).integers(0, 255, (50, 71), dtype=np.uint8)
    anomaly_map = detector.anomaly_map(image)
    assert anomaly_map.shape == (50, 71)
    assert anomaly_map.dtype == np.float32
    assert (anomaly_map >= 0).all()
    for several in (image[None, :, :, None], [image, image[:20]], ["a.png", "b.png"]):
        with pytest.raises(UsageError, match="takes one image"):
            detector.anomaly_map(several)


def test_a_folder_is_no_image_to_map(detector, normal_folder):
    with pytest.raises(UsageError, match="`predictions` gives the map of each"):
        detector.anomaly_map(normal_folder)


def test_reconstructions_are_images_of_the_network_s_size(detector, normal_images):
    reconstructions = detector.reconstruct(normal_images[:5])
    assert reconstructions.shape == (5, 32, 32, 1)
    assert reconstructions.dtype == np.uint8


@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        ({"preset": "nonsense"}, "unknown preset 'nonsense'"),
        ({"epochs": 0}, "epochs"),
        ({"image_size": 48}, "image size 48"),
        ({"false_alarm_rate": 1.5}, "false alarm rate"),
        ({"device": "tpu"}, "device"),
        ({"seed": -1}, "seed"),
        ({"method_options": {"nzz": 3}}, "nzz"),
    ],
)
def test_wrong_parameters_are_said_by_fit(normal_images, parameters, sentence):
    with pytest.raises(UsageError, match=sentence):
        GANomalyDetector(**parameters).fit(normal_images)


def test_images_of_floats_are_refused_with_a_remedy():
    with pytest.raises(UsageError, match="uint8"):
        GANomalyDetector().fit(np.zeros((20, 32, 32)))


def test_one_image_is_too_few():
    with pytest.raises(DataError, match="found 1 normal image"):
        GANomalyDetector().fit(np.zeros((1, 32, 32), np.uint8))


def test_copies_of_one_image_are_refused():
    image = np.random.default_rng(0).integers(0, 255, (32, 32), dtype=np.uint8)
    with pytest.raises(Exception, match=r"same latent|same score"):
        GANomalyDetector("paper", epochs=1, method_options={"ngf": 4, "ndf": 4}).fit(np.stack([image] * 20))


def test_too_few_calibration_images_are_a_warning(normal_images):
    detector = GANomalyDetector(
        "paper", epochs=1, false_alarm_rate=0.001, method_options={"ngf": 4, "ndf": 4}
    )
    with pytest.warns(UserWarning, match="needs 999 calibration images, but only 20"):
        detector.fit(normal_images)


def test_sixteen_bit_images_work_and_eight_bit_ones_are_then_refused(normal_images):
    twelve_bit = normal_images.astype(np.uint16) * 16
    detector = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options={"ngf": 4, "ndf": 4})
    detector.fit(twelve_bit)
    assert detector.model_.preprocessing.white_level == 4095
    assert np.isfinite(detector.anomaly_score(twelve_bit)).all()
    with pytest.raises(ImageError, match="8-bit"):
        detector.reconstruct(normal_images)


def test_colour_images_work_and_keep_three_channels(normal_images):
    colour = np.stack([normal_images, normal_images[::-1], normal_images], axis=-1)
    detector = GANomalyDetector(
        "paper", epochs=1, false_alarm_rate=0.2, method_options={"ngf": 4, "ndf": 4}
    ).fit(colour)
    assert detector.reconstruct(colour[:2]).shape == (2, 32, 32, 3)


def test_the_public_name_is_the_class():
    assert GANomalyDetector is Detector


@pytest.mark.parametrize(
    ("side", "colour", "chosen"),
    [
        (32, False, "small"),
        (64, False, "small"),
        (65, False, "features"),
        (64, True, "small-features"),
        (65, True, "features"),
    ],
)
def test_the_preset_is_chosen_by_size_and_colour_of_the_images(side, colour, chosen):
    images = np.zeros((3, side, 2 * side, 3), np.uint8)
    images[..., 0] = 255
    inspection = inspect_images(open_training_images(images if colour else images[..., 0]))
    assert suggested_preset(inspection) == chosen


def test_small_images_in_colour_that_are_to_be_gray_are_compared_without_a_pretrained_network():
    images = np.zeros((3, 32, 32, 3), np.uint8)
    images[..., 0] = 255
    inspection = inspect_images(open_training_images(images))
    assert suggested_preset(inspection, channels=1) == "small"
    assert suggested_preset(inspection, channels=3) == "small-features"


def test_a_preset_chosen_from_the_data_is_stated_and_saved(tmp_path):
    sentences = []

    class Listener(SilentObserver):
        def say(self, sentence):
            sentences.append(sentence)

    images = textures(12, size=80)
    options = {"ngf": 4, "ndf": 4, "nz": 4}
    settings = FitOptions(epochs=1, image_size=32, false_alarm_rate=0.3, method_options=options)
    model = fit_model(images, settings, observer=Listener()).model
    assert model.preset == "features"
    assert "Preset features" in sentences[0]
    assert "scaled to 40% of their size (as asked)" in sentences[0]
    assert sentences[0].endswith("; 1 epoch of training.")
    save_model(model, tmp_path / "m.safetensors")
    assert load_model(tmp_path / "m.safetensors").preset == "features"


def test_which_images_train_does_not_depend_on_free_memory(tmp_path, monkeypatch):
    folder = write_images(tmp_path / "normal", textures(40))
    broken = folder / "007.png"
    broken.write_bytes(broken.read_bytes()[:-400])  # its header can still be read
    settings = FitOptions(
        preset="paper", epochs=2, precision="fp32", false_alarm_rate=0.2, method_options=SMALL
    )
    models = []
    for memory in (2**30, 0):
        monkeypatch.setattr("ganomaly.data.loader.available_memory", lambda memory=memory: memory)
        fitted = fit_model(folder, settings)
        assert list(fitted.failures) == [str(broken)]
        models.append(fitted.model)
    one, other = models
    np.testing.assert_array_equal(one.calibration.scores, other.calibration.scores)
    for name, tensor in one.method.state_dict().items():
        assert torch.equal(tensor, other.method.state_dict()[name]), f"{name} differs"


@pytest.mark.parametrize("image_size", [None, 40])
def test_a_loaded_detector_of_large_images_is_fitted_again_as_it_was(tmp_path, image_size):
    images = textures(12, size=80)
    detector = GANomalyDetector(
        epochs=1,
        image_size=image_size,
        false_alarm_rate=0.3,
        method_options={"ngf": 4, "ndf": 4, "nz": 4},
    ).fit(images)
    detector.save(tmp_path / "m.safetensors")
    loaded = GANomalyDetector.load(tmp_path / "m.safetensors")
    assert clone(loaded).fit(images).model_.preprocessing == detector.model_.preprocessing
    with pytest.raises(UsageError, match="does not reconstruct"):
        detector.reconstruct(images)


def test_images_of_several_sizes_are_reconstructed_one_at_a_time():
    detector = GANomalyDetector(
        "patches", epochs=1, false_alarm_rate=0.3, method_options={"ngf": 4, "ndf": 4, "nz": 4}
    ).fit(textures(12, size=80))
    with pytest.raises(UsageError, match="one at a time"):
        detector.reconstruct([np.zeros((70, 90), np.uint8), np.zeros((90, 70), np.uint8)])


@pytest.mark.parametrize(
    ("channels", "steps"), [(1, "; 1 step of training."), (3, "; 2,000 steps of training.")]
)
def test_colour_images_take_the_steps_of_colours(monkeypatch, channels, steps):
    presets = ContrastiveGANomaly.presets
    few = replace(presets["small"], training=TrainingOptions(steps=1, batch_size=4), colour_steps=2000)
    monkeypatch.setattr(ContrastiveGANomaly, "presets", {"small": few})
    sentences = []

    class StoppedError(Exception):
        pass

    class Listener(SilentObserver):
        def say(self, sentence):
            sentences.append(sentence)
            raise StoppedError

    images = textures(12, size=32)
    if channels == 3:
        images = np.stack([images, images // 2, images // 3], axis=-1)
    with pytest.raises(StoppedError):
        fit_model(images, FitOptions(preset="small"), observer=Listener())
    assert sentences[0].endswith(steps)
