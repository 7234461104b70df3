"""What holds for every registered method; a new method is tested once it is registered."""

import copy
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pytest
import torch

from ganomaly.calibration.conformal import Calibration
from ganomaly.config import Preprocessing
from ganomaly.errors import UsageError
from ganomaly.methods import METHODS, Method, find_method, find_preset
from ganomaly.methods.base import Step, without_autocast
from ganomaly.prediction.model import Model
from ganomaly.prediction.model_file import load_model, save_model
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import in_channels_last

SMALL = {"nz": 8, "ngf": 4, "ndf": 4, "search_steps": 5, "samples": 2}
STEPS = 12  # enough for methods that train in phases
PASSES = {
    "ganomaly": {"encoder": 1, "decoder": 1, "reconstruction_encoder": 1},
    "patch-ganomaly": {  # at two scales
        "normalisation": 2,
        "encoder": 2,
        "decoder": 2,
        "reconstruction_encoder": 2,
    },
    "contrastive-ganomaly": {
        "encoder": 1,
        "decoder": 1,
        "reconstruction_encoder": 1,
        "discriminator": 1,
        "projection": 1,
    },
    "anogan": {"generator": SMALL["search_steps"] + 2, "discriminator": SMALL["search_steps"] + 2},
    "egbad": {"encoder": 1, "decoder": 1, "discriminator": 2},
    "vae": {"encoder": 1, "decoder": SMALL["samples"] + 1},
    "skip-ganomaly": {"generator": 1, "discriminator": 2},
    "f-anogan": {"encoder": 1, "generator": 1, "critic": 2},
}
every_method = pytest.mark.parametrize("method_type", METHODS.values(), ids=METHODS.keys())


def make(method_type: type[Method], seed: int = 0) -> Method:
    """A method with small networks."""
    small = {name: value for name, value in SMALL.items() if name in method_type.options_type.model_fields}
    preprocessing = Preprocessing(image_size=32, channels=3)
    method = method_type(
        method_type.options_type(**small), preprocessing, torch.Generator().manual_seed(seed)
    )
    method.load_pretrained()
    return in_channels_last(method)


def random_images(n: int = 6) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module", params=METHODS.values(), ids=METHODS.keys())
def trained(request: pytest.FixtureRequest) -> Method:
    method = make(request.param)
    train(method, method.optimizers(), range(STEPS))
    return method


def train(method: Method, optimizers: dict[str, torch.optim.Optimizer], steps: Iterable[int]) -> None:
    method.train()
    for step in steps:
        losses = method.training_step(random_images(), optimizers, without_autocast(), Step(step, STEPS))
        assert losses
        assert all(
            loss.dim() == 0 and not loss.requires_grad and torch.isfinite(loss) for loss in losses.values()
        )


def test_training_changes_every_network(trained):
    before = make(type(trained))
    for name, parameter in trained.named_parameters():
        is_changed = not torch.equal(parameter, before.get_parameter(name))
        assert is_changed == parameter.requires_grad, f"{name} is frozen, or is not trained"


def test_scores_are_finite_and_never_negative(trained):
    with eval_mode(trained):
        scores = trained.predict(random_images()).score
    assert scores.shape == (6,)
    assert torch.isfinite(scores).all()
    assert (scores >= 0).all()


def test_the_score_of_an_image_does_not_depend_on_its_batch(trained):
    images = random_images(16)
    with eval_mode(trained):
        batch_scores = trained.predict(images).score.numpy()
        single_scores = np.concatenate([trained.predict(image[None]).score.numpy() for image in images])
        reversed_scores = trained.predict(images.flip(0)).score.flip(0).numpy()
    np.testing.assert_allclose(batch_scores, single_scores, rtol=1e-5)
    np.testing.assert_allclose(batch_scores, reversed_scores, rtol=1e-5)


def test_reconstructions_and_maps_have_the_shape_of_the_image(trained):
    images = random_images()
    with eval_mode(trained):
        prediction = trained.predict(images)
    if prediction.reconstruction is not None:
        assert prediction.reconstruction.shape == images.shape
        assert prediction.reconstruction.abs().max() <= 1
    if prediction.anomaly_map is not None:
        assert prediction.anomaly_map.shape == (6, 32, 32)
        assert (prediction.anomaly_map >= 0).all()


@pytest.mark.parametrize("name", PASSES)
def test_a_prediction_runs_each_network_no_more_often_than_the_score_needs(name):
    method = make(METHODS[name])
    passes: Counter[str] = Counter()
    for network_name, network in method.named_children():
        network.register_forward_hook(lambda *_, network_name=network_name: passes.update([network_name]))
    with eval_mode(method):
        method.predict(random_images(1))
    assert passes == PASSES[name]


@every_method
@pytest.mark.parametrize("stop", [2, STEPS - 3])
def test_a_resumed_run_ends_with_the_same_weights(method_type, stop):
    """The random numbers of a step must follow from the state dict."""
    whole, killed, resumed = (make(method_type) for _ in range(3))
    train(whole, whole.optimizers(), range(STEPS))
    killed_optimizers, resumed_optimizers = killed.optimizers(), resumed.optimizers()
    train(killed, killed_optimizers, range(stop))
    resumed.load_state_dict({name: tensor.clone() for name, tensor in killed.state_dict().items()})
    for name, optimizer in resumed_optimizers.items():
        optimizer.load_state_dict(killed_optimizers[name].state_dict())
    train(resumed, resumed_optimizers, range(stop, STEPS))
    actual, expected = whole.state_dict(), resumed.state_dict()
    assert all(torch.equal(actual[name], expected[name]) for name in actual)


@every_method
def test_a_saved_model_has_the_same_scores(method_type, tmp_path):
    method = make(method_type)
    train(method, method.optimizers(), range(3))
    calibration = Calibration(np.linspace(1, 2, 30), 0.1)
    model = Model(method, "small", Preprocessing(image_size=32, channels=3), calibration, {})
    save_model(model, tmp_path / "small.safetensors")
    loaded = load_model(tmp_path / "small.safetensors").method
    with eval_mode(method), eval_mode(loaded):
        assert torch.equal(method.predict(random_images()).score, loaded.predict(random_images()).score)


@every_method
def test_prediction_does_not_change_the_method(method_type):
    method = make(method_type)
    before = copy.deepcopy(method.state_dict())
    trainable = [parameter.requires_grad for parameter in method.parameters()]
    with eval_mode(method):
        first, second = method.predict(random_images()).score, method.predict(random_images()).score
    assert torch.equal(first, second)
    assert all(torch.equal(before[name], tensor) for name, tensor in method.state_dict().items())
    assert [parameter.requires_grad for parameter in method.parameters()] == trainable


@every_method
def test_the_seed_alone_decides_the_initial_weights(method_type):
    torch.manual_seed(1)
    first = make(method_type).state_dict()
    torch.manual_seed(2)
    repeated, other = make(method_type).state_dict(), make(method_type, seed=1).state_dict()
    assert all(torch.equal(first[name], repeated[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@every_method
def test_every_preset_is_named_once_and_complete(method_type):
    assert method_type.presets
    for name, preset in method_type.presets.items():
        assert find_preset(name) == (method_type, preset)
        assert isinstance(preset.options, method_type.options_type)
        assert preset.description


def test_unknown_names_are_refused_with_those_that_exist():
    with pytest.raises(UsageError, match=r"unknown method 'nonsense'; there are: .*ganomaly"):
        find_method("nonsense")
    with pytest.raises(UsageError, match=r"unknown preset 'nonsense'; there are: .*paper"):
        find_preset("nonsense")


def test_colour_images_have_more_steps_unless_epochs_are_given():
    preset = find_preset("small")[1]
    assert preset.training_for(3).steps == preset.colour_steps > preset.training_for(1).steps
    training = preset.training_for(3, epochs=2, seed=5)
    assert (training.epochs, training.steps, training.seed) == (2, None, 5)
    assert training.batch_size == preset.training.batch_size
