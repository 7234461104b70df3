"""The VAE is the publications'."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence
from torch.optim import SGD

from ganomaly.config import Preprocessing
from ganomaly.methods.base import Step, without_autocast
from ganomaly.methods.vae import VAE, VAEOptions
from ganomaly.prediction.pytorch import eval_mode

PREPROCESSING = Preprocessing(image_size=32, channels=2)


def small(**options: object) -> VAE:
    checked = VAEOptions.checked(**{"nz": 8, "ngf": 4, "samples": 3, **options})
    return VAE(checked, PREPROCESSING, torch.Generator().manual_seed(0))


def batch() -> torch.Tensor:
    return torch.rand(8, 2, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def latents(method: VAE, x: torch.Tensor) -> Normal:
    mean, log_variance = method.encoder(x).chunk(2, dim=1)
    return Normal(mean, (log_variance / 2).exp())


def images(method: VAE, z: torch.Tensor) -> Normal:
    """The standard deviation goes from the smallest one, for −1, to 1, for 1."""
    mean, height = method.decoder(z).chunk(2, dim=1)
    return Normal(mean, method.options.smallest_deviation ** ((1 - height) / 2))


def test_a_step_maximises_the_evidence_lower_bound():
    """ELBO: log p(x | z) for one z ~ q(z | x), less the divergence of q from N(0, 1)."""
    method, reference = small(), small()
    method.training_step(
        batch(), {"autoencoder": SGD(method.parameters(), lr=1e-4)}, without_autocast(), Step(0, 1)
    )
    posterior = latents(reference, batch())
    z = posterior.loc + posterior.scale * reference.randomness.normal((8, 8, 1, 1), torch.device("cpu"))
    bound = images(reference, z).log_prob(batch()).sum(dim=(1, 2, 3))
    bound = bound - kl_divergence(posterior, Normal(0.0, 1.0)).sum(dim=(1, 2, 3))
    (-bound.mean()).backward()
    SGD(reference.parameters(), lr=1e-4).step()
    for name, before in small().named_parameters():
        change, expected = (
            other.get_parameter(name).detach() - before.detach() for other in (method, reference)
        )
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert expected.abs().max() > 0


@pytest.mark.parametrize("samples", [1, 5])
def test_the_score_is_the_reconstruction_probability_over_l_samples(samples, enlarge_weights):
    method = enlarge_weights(small(samples=samples))
    with eval_mode(method):
        posterior = latents(method, batch())
        log_probability = torch.stack(
            [
                images(method, posterior.loc + posterior.scale * noise).log_prob(batch()).mean(dim=(1, 2, 3))
                for noise in method.noise
            ]
        ).mean(dim=0)
        minimum = math.log(method.options.smallest_deviation) + 0.5 * math.log(2 * math.pi)
        torch.testing.assert_close(method.predict(batch()).score, -log_probability - minimum)


def test_the_score_is_the_mean_of_the_map(enlarge_weights):
    method = enlarge_weights(small())
    with eval_mode(method):
        prediction = method.predict(batch())
    torch.testing.assert_close(prediction.score, prediction.anomaly_map.mean(dim=(1, 2)))


def test_no_image_can_score_below_0():
    """The most likely image, the decoder's mean at its smallest deviation, scores 0."""
    method = small(samples=1)
    x, deviation = torch.zeros(1, 2, 32, 32), torch.tensor(method.options.smallest_deviation)
    assert method._negative_log_likelihood(x, x, deviation).abs().max() < 1e-6
    assert (method._negative_log_likelihood(x, x, deviation * 2) > 0).all()


def test_the_noise_of_the_score_is_part_of_the_model(enlarge_weights):
    assert small().noise.shape == (3, 8, 1, 1)
    assert "noise" in small().state_dict()
    method = enlarge_weights(small())
    with eval_mode(method):
        before = method.predict(batch()).score
        method.noise.mul_(-1)
        assert not torch.equal(before, method.predict(batch()).score)


def test_collapse_reports_a_constant_latent_and_no_varied_one():
    method = small()
    with eval_mode(method):
        assert method.collapse(batch(), Step(0, 1)) is None
        method.encoder.latent.weight.data.zero_()
        assert "same latent" in str(method.collapse(batch(), Step(0, 1)))
