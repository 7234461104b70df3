"""f-AnoGAN is the publication's: first a Wasserstein GAN, then an encoder for it."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.optim import SGD

from ganomaly.config import Preprocessing, TrainingOptions
from ganomaly.methods.base import Step, without_autocast
from ganomaly.methods.f_anogan import FAnoGAN, FAnoGANOptions
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.loop import train
from ganomaly.training.observers import TrainingProgress
from images import load_images

PREPROCESSING = Preprocessing(image_size=32, channels=1)


def small(**options: object) -> FAnoGAN:
    checked = FAnoGANOptions.checked(**{"nz": 8, "ngf": 4, "ndf": 4, **options})
    return FAnoGAN(checked, PREPROCESSING, torch.Generator().manual_seed(0))


def batch() -> torch.Tensor:
    return torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def sgd_optimizers(method: FAnoGAN) -> dict[str, torch.optim.Optimizer]:
    return {name: SGD(getattr(method, name).parameters(), lr=0.1) for name in method.optimizers()}


def changed_by_a_step(
    method: FAnoGAN, optimizers: dict[str, torch.optim.Optimizer], step: int, steps: int
) -> set[str]:
    """The names of the weights and statistics that the step changed."""
    before = copy.deepcopy(method.state_dict())
    method.train()
    method.training_step(batch(), optimizers, without_autocast(), Step(step, steps))
    return {name for name, tensor in method.state_dict().items() if not torch.equal(before[name], tensor)}


def test_released_defaults():
    options = FAnoGAN.presets["f-anogan"].options
    assert isinstance(options, FAnoGANOptions)
    assert (options.learning_rate, options.beta1, options.beta2) == (1e-4, 0, 0.9)
    assert (options.critic_steps, options.penalty_weight, options.feature_weight) == (5, 10, 1)
    assert options.encoder_learning_rate == 5e-5


def test_the_generator_is_trained_at_every_fifth_step_of_the_critic_and_the_encoder_afterwards():
    method = small()
    optimizers = method.optimizers()
    changed = [changed_by_a_step(method, optimizers, step, 20) for step in range(20)]
    last_layers = {"generator": "generator.pyramid.9.weight", "critic": "critic.classifier.weight"}
    last_layers["encoder"] = "encoder.latent.weight"
    trained_at = {
        network: [step for step in range(20) if layer in changed[step]]
        for network, layer in last_layers.items()
    }
    assert trained_at == {
        "generator": [4, 9],
        "critic": list(range(10)),
        "encoder": list(range(10, 20)),
    }


def test_in_the_second_phase_generator_and_critic_are_frozen_with_their_statistics():
    method = small()
    changed = changed_by_a_step(method, method.optimizers(), 15, 20)
    assert {name.split(".")[0] for name in changed} == {"encoder"}


@pytest.mark.parametrize(("share", "generating"), [(0.5, 5), (0.75, 7.5), (0.01, 0.1)])
def test_the_phases_divide_training_by_their_share(share, generating):
    method = small(generation_share=share)
    optimizers = method.optimizers()
    for number in range(10):
        losses = method.training_step(batch(), optimizers, without_autocast(), Step(number, 10))
        assert ("critic" in losses) == (number < generating)


def test_the_critic_s_loss_is_that_of_wgan_gp():
    method, reference = small(), small()
    method.training_step(batch(), sgd_optimizers(method), without_autocast(), Step(0, 10))
    x_tilde = reference.generator(reference.randomness.normal((8, 8, 1, 1), torch.device("cpu"))).detach()
    epsilon = 1 - reference.randomness.uniform((8, 1, 1, 1), torch.device("cpu"))
    interpolated = (epsilon * batch() + (1 - epsilon) * x_tilde).requires_grad_()
    penalties = []
    for n in range(8):  # image by image: the norm of its own gradient
        (gradient,) = torch.autograd.grad(
            reference.critic(interpolated)[0][n], interpolated, create_graph=True, retain_graph=True
        )
        penalties.append((gradient[n].square().sum().sqrt() - 1) ** 2)
    loss = reference.critic(x_tilde)[0].mean() - reference.critic(batch())[0].mean()
    (loss + 10 * torch.stack(penalties).mean()).backward()
    SGD(reference.critic.parameters(), lr=0.1).step()
    for name, before in small().critic.named_parameters():
        change, expected = (
            m.critic.get_parameter(name).detach() - before.detach() for m in (method, reference)
        )
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert expected.abs().max() > 0


def test_the_encoder_s_loss_is_izi_f():
    method, reference = small(feature_weight=3.0), small(feature_weight=3.0)
    method.training_step(batch(), sgd_optimizers(method), without_autocast(), Step(9, 10))
    reference.generator.eval()
    x_hat = reference.generator(reference.encoder(batch()).tanh())
    features = reference.critic(batch())[1] - reference.critic(x_hat)[1]
    ((batch() - x_hat).square().mean() + 3 * features.square().mean()).backward()
    SGD(reference.encoder.parameters(), lr=0.1).step()
    for name, before in small().encoder.named_parameters():
        change, expected = (
            m.encoder.get_parameter(name).detach() - before.detach() for m in (method, reference)
        )
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert expected.abs().max() > 0


def test_the_score_is_residual_plus_features(enlarge_weights):
    method = enlarge_weights(small(feature_weight=3.0))
    with eval_mode(method):
        x_hat = method.generator(method.encoder(batch()).tanh())
        features = method.critic(batch())[1] - method.critic(x_hat)[1]
        expected = (batch() - x_hat).square().mean(dim=(1, 2, 3))
        expected = expected + 3 * features.square().mean(dim=(1, 2, 3))
        torch.testing.assert_close(method.predict(batch()).score, expected)


def test_collapse_reports_a_constant_latent_once_the_encoder_is_trained():
    method = small()
    method.encoder.latent.weight.data.zero_()
    with eval_mode(method):
        assert method.collapse(batch(), Step(0, 10)) is None
        assert "same latent" in str(method.collapse(batch(), Step(9, 10)))


class StopError(Exception):
    """Ends a run from inside."""


def run(
    images: NDArray[np.uint8], *, epochs: int, checkpoint: Path | None = None, stop_at: int = -1
) -> dict[str, torch.Tensor]:
    """Train in the package's loop, 4 steps an epoch, and return the weights."""
    loader = load_images(images[:32])
    training = TrainingOptions(epochs=epochs, batch_size=8, precision="fp32", checkpoint_seconds=0)

    def stop(progress: TrainingProgress) -> None:
        if progress.step == stop_at:
            raise StopError

    result = train(
        FAnoGAN,
        FAnoGANOptions(nz=8, ngf=4, ndf=4, critic_steps=2),
        PREPROCESSING,
        loader,
        loader.usable,
        training,
        checkpoint=checkpoint,
        on_progress=stop,
    )
    return {name: tensor.clone() for name, tensor in result.method.state_dict().items()}


def test_even_a_training_of_one_epoch_has_both_phases(normal_images):
    trained = run(normal_images, epochs=1)
    first = small().state_dict()
    for network in ("generator.pyramid.9", "critic.classifier", "encoder.latent"):
        assert not torch.equal(trained[f"{network}.weight"], first[f"{network}.weight"])


@pytest.mark.parametrize("stop_at", [2, 4, 5, 7])
def test_a_run_stopped_in_either_phase_ends_with_the_weights_of_an_uninterrupted_one(
    normal_images, tmp_path, stop_at
):
    checkpoint = tmp_path / "run.checkpoint"
    with pytest.raises(StopError):
        run(normal_images, epochs=2, checkpoint=checkpoint, stop_at=stop_at)
    resumed = run(normal_images, epochs=2, checkpoint=checkpoint)
    whole = run(normal_images, epochs=2)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
