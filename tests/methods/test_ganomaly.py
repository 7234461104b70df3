"""GANomaly is the publication's."""

import copy

import pytest
import torch
from torch.nn import functional

from ganomaly.config import Preprocessing
from ganomaly.methods.base import Step, without_autocast
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.prediction.pytorch import eval_mode

PREPROCESSING = Preprocessing(image_size=32, channels=1)


def small(**options: object) -> GANomaly:
    checked = GANomalyOptions.checked(**{"nz": 8, "ngf": 4, "ndf": 4, **options})
    return GANomaly(checked, PREPROCESSING, torch.Generator().manual_seed(0))


def batch(seed: int = 0) -> torch.Tensor:
    return torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def reference_step(method: GANomaly, x: torch.Tensor, optimizers: dict[str, torch.optim.Optimizer]) -> None:
    """One step as the publication writes it, with one network pass wherever a network is named."""
    z = method.encoder(x)
    x_hat = method.decoder(z)
    z_hat = method.reconstruction_encoder(x_hat)
    real_probability = torch.sigmoid(method.discriminator(x)[0])
    fake_probability = torch.sigmoid(method.discriminator(x_hat.detach())[0])

    optimizers["generator"].zero_grad()
    adversarial = ((method.discriminator(x)[1] - method.discriminator(x_hat)[1]) ** 2).mean()
    contextual = (x - x_hat).abs().mean()
    encoder = ((z - z_hat) ** 2).mean()
    (1 * adversarial + 50 * contextual + 1 * encoder).backward(retain_graph=True)
    optimizers["generator"].step()

    optimizers["discriminator"].zero_grad()
    loss = 0.5 * (
        functional.binary_cross_entropy(real_probability, torch.ones(len(x)))
        + functional.binary_cross_entropy(fake_probability, torch.zeros(len(x)))
    )
    loss.backward()
    optimizers["discriminator"].step()


def test_a_step_updates_the_weights_as_the_publication_s_step_does():
    method, reference = small(), small()
    optimizers, reference_optimizers = method.optimizers(), reference.optimizers()
    for seed in range(3):
        method.training_step(batch(seed), optimizers, without_autocast(), Step(0, 1))
        reference_step(reference, batch(seed), reference_optimizers)
    for (name, actual), expected in zip(method.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(
            actual, expected, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_a_step_runs_each_network_no_more_often_than_needed():
    method = small()
    runs = dict.fromkeys(("encoder", "decoder", "reconstruction_encoder", "discriminator"), 0)
    for name in runs:
        getattr(method, name).register_forward_hook(lambda *_, name=name: runs.update({name: runs[name] + 1}))
    method.training_step(batch(), method.optimizers(), without_autocast(), Step(0, 1))
    # x and x̂ pass through D once, for both losses
    assert runs == {"encoder": 1, "decoder": 1, "reconstruction_encoder": 1, "discriminator": 2}


def test_published_defaults():
    options = GANomaly.presets["paper"].options
    assert isinstance(options, GANomalyOptions)
    assert (options.contextual_weight, options.adversarial_weight, options.encoder_weight) == (50, 1, 1)
    assert (options.nz, options.ngf, options.learning_rate, options.beta1) == (100, 64, 2e-4, 0.5)


@pytest.mark.parametrize(
    ("score", "norm"),
    [("l1", lambda d: d.abs().sum(dim=1)), ("mean_square", lambda d: (d**2).mean(dim=1))],
)
def test_the_score_is_the_distance_between_the_two_latents(score, norm, enlarge_weights):
    method = enlarge_weights(small(score=score)).eval()
    with torch.no_grad():
        z = method.encoder(batch())
        z_hat = method.reconstruction_encoder(method.decoder(z))
        torch.testing.assert_close(method.predict(batch()).score, norm((z - z_hat).flatten(1)))


@pytest.mark.parametrize(
    ("score", "distance"),
    [
        ("reconstruction", lambda x, x_hat, f: (x - x_hat).abs()),
        ("discriminator_features", lambda x, x_hat, f: (f(x)[1] - f(x_hat)[1]) ** 2),
    ],
)
def test_the_score_may_be_another_distance_to_compare_with(score, distance, enlarge_weights):
    method = enlarge_weights(small(score=score)).eval()
    with torch.no_grad():
        x_hat = method.decoder(method.encoder(batch()))
        expected = distance(batch(), x_hat, method.discriminator).flatten(1).mean(dim=1)
        torch.testing.assert_close(method.predict(batch()).score, expected)


def test_a_loss_weight_of_zero_takes_its_loss_out_of_the_update():
    """With all weights 0, the decoder stays as it was."""
    method = small(adversarial_weight=0, contextual_weight=0, encoder_weight=0)
    before = copy.deepcopy(method.decoder.state_dict())
    method.training_step(batch(), method.optimizers(), without_autocast(), Step(0, 1))
    weights = [name for name in before if name.endswith("weight")]
    assert all(torch.equal(before[name], method.decoder.state_dict()[name]) for name in weights)


def test_recover_initialises_a_collapsed_discriminator_again_and_no_other():
    method = small()
    before = method.discriminator.classifier.weight.clone()
    assert method.recover({"discriminator": 0.4}, torch.Generator()) is None
    assert torch.equal(before, method.discriminator.classifier.weight)
    message = method.recover({"discriminator": 1e-6}, torch.Generator().manual_seed(9))
    assert message is not None
    assert "discriminator" in message
    assert not torch.equal(before, method.discriminator.classifier.weight)


def test_collapse_reports_a_constant_latent_and_no_varied_one():
    method = small()
    with eval_mode(method):
        assert method.collapse(batch(), Step(0, 1)) is None
        method.encoder.latent.weight.data.zero_()
        message = method.collapse(batch(), Step(0, 1))
    assert message is not None
    assert "same latent" in message
