"""EGBAD is the publication's."""

import pytest
import torch
from torch.optim import SGD

from ganomaly.config import Preprocessing
from ganomaly.methods.base import Step, without_autocast
from ganomaly.methods.egbad import EGBAD, EGBADOptions
from ganomaly.prediction.pytorch import eval_mode

PREPROCESSING = Preprocessing(image_size=32, channels=1)
NETWORKS = {"generator": ("encoder", "decoder"), "discriminator": ("discriminator",)}


def small(**options: object) -> EGBAD:
    checked = EGBADOptions.checked(**{"nz": 8, "ngf": 4, "ndf": 4, **options})
    return EGBAD(checked, PREPROCESSING, torch.Generator().manual_seed(0))


def batch() -> torch.Tensor:
    return torch.rand(8, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def weights(method: EGBAD, optimizer: str) -> list[torch.nn.Parameter]:
    return [weight for name in NETWORKS[optimizer] for weight in getattr(method, name).parameters()]


def sgd_optimizers(method: EGBAD) -> dict[str, torch.optim.Optimizer]:
    """Plain gradient descent, since Adam would amplify the rounding of gradients that nearly cancel."""
    return {name: SGD(weights(method, name), lr=1000.0) for name in method.optimizers()}


def test_published_defaults():
    options = EGBAD.presets["egbad"].options
    assert isinstance(options, EGBADOptions)
    assert options.discriminator_weight == 0.1


def test_a_step_descends_the_bigan_s_losses():
    method, reference = small(), small()
    method.training_step(batch(), sgd_optimizers(method), without_autocast(), Step(0, 1))
    z = reference.randomness.normal((8, 8, 1, 1), torch.device("cpu"))
    encoded = torch.sigmoid(reference.discriminator(batch(), reference.encoder(batch()))[0])
    generated = torch.sigmoid(reference.discriminator(reference.decoder(z), z)[0])
    losses = {
        "discriminator": -0.5 * (encoded.log().mean() + (1 - generated).log().mean()),
        "generator": -0.5 * ((1 - encoded).log().mean() + generated.log().mean()),
    }
    optimizers = sgd_optimizers(reference)
    for name, loss in losses.items():
        loss.backward(inputs=weights(reference, name), retain_graph=True)
    for optimizer in optimizers.values():
        optimizer.step()
    for name, before in small().named_parameters():
        change, expected = (
            other.get_parameter(name).detach() - before.detach() for other in (method, reference)
        )
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert expected.abs().max() > 0


@pytest.mark.parametrize("kind", ["cross_entropy", "feature_matching"])
@pytest.mark.parametrize("weight", [0.0, 0.1, 1.0])
def test_the_score_is_reconstruction_plus_discriminator(kind, weight, enlarge_weights):
    method = enlarge_weights(small(discriminator_score=kind, discriminator_weight=weight))
    x = batch()
    with eval_mode(method):
        z = method.encoder(x)
        x_hat = method.decoder(z)
        reconstruction = (x - x_hat).abs().sum(dim=(1, 2, 3))
        if kind == "cross_entropy":
            discriminator = -torch.sigmoid(method.discriminator(x, z)[0]).log()
        else:
            difference = method.discriminator(x, z)[1] - method.discriminator(x_hat, z)[1]
            discriminator = difference.abs().sum(dim=(1, 2, 3))
        expected = (1 - weight) * reconstruction + weight * discriminator
        torch.testing.assert_close(method.predict(x).score, expected, rtol=1e-4, atol=1e-7)


def test_collapse_reports_a_constant_latent_and_no_varied_one():
    method = small()
    with eval_mode(method):
        assert method.collapse(batch(), Step(0, 1)) is None
        method.encoder.latent.weight.data.zero_()
        assert "same latent" in str(method.collapse(batch(), Step(0, 1)))
