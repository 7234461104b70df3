"""Skip-GANomaly is what the authors' released code says."""

import torch
from torch.nn import functional
from torch.optim import SGD

from ganomaly.config import Preprocessing
from ganomaly.methods.base import Step, without_autocast
from ganomaly.methods.skip_ganomaly import SkipGANomaly, SkipGANomalyOptions
from ganomaly.prediction.pytorch import eval_mode

PREPROCESSING = Preprocessing(image_size=32, channels=3)


def small(**options: object) -> SkipGANomaly:
    checked = SkipGANomalyOptions.checked(**{"nz": 8, "ngf": 4, "ndf": 4, **options})
    return SkipGANomaly(checked, PREPROCESSING, torch.Generator().manual_seed(0))


def batch() -> torch.Tensor:
    return torch.rand(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def sgd_optimizers(method: SkipGANomaly) -> dict[str, torch.optim.Optimizer]:
    """Plain gradient descent, since Adam would amplify the rounding of gradients that nearly cancel."""
    return {name: SGD(getattr(method, name).parameters(), lr=1.0) for name in method.optimizers()}


def test_released_defaults():
    options = SkipGANomaly.presets["skip-ganomaly"].options
    assert isinstance(options, SkipGANomalyOptions)
    assert (options.adversarial_weight, options.contextual_weight, options.latent_weight) == (1, 50, 1)
    assert options.reconstruction_share == 0.9


def test_a_step_descends_the_authors_losses():
    weights = {"adversarial_weight": 2.0, "contextual_weight": 3.0, "latent_weight": 5.0}
    method, reference = small(**weights), small(**weights)
    x = batch()
    method.training_step(x, sgd_optimizers(method), without_autocast(), Step(0, 1))
    x_hat = reference.generator(x)
    real, real_latent = reference.discriminator(x)
    fake, fake_latent = reference.discriminator(x_hat)
    latent = 5 * ((real_latent - fake_latent) ** 2).mean()
    ones, zeros = torch.ones(8), torch.zeros(8)
    bce = functional.binary_cross_entropy
    losses = {
        "generator": 2 * bce(torch.sigmoid(fake), ones) + 3 * (x - x_hat).abs().mean() + latent,
        "discriminator": bce(torch.sigmoid(real), ones) + bce(torch.sigmoid(fake), zeros) + latent,
    }
    optimizers = sgd_optimizers(reference)
    for name, loss in losses.items():
        loss.backward(inputs=list(getattr(reference, name).parameters()), retain_graph=True)
    for optimizer in optimizers.values():
        optimizer.step()
    for name, before in small().named_parameters():
        change, expected = (
            other.get_parameter(name).detach() - before.detach() for other in (method, reference)
        )
        torch.testing.assert_close(change, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))
        assert expected.abs().max() > 0


def test_the_score_weighs_reconstruction_and_latent(enlarge_weights):
    method = enlarge_weights(small())
    with eval_mode(method):
        x_hat = method.generator(batch())
        reconstruction = ((batch() - x_hat) ** 2).mean(dim=(1, 2, 3))
        difference = method.discriminator(batch())[1] - method.discriminator(x_hat)[1]
        expected = 0.9 * reconstruction + 0.1 * (difference**2).mean(dim=(1, 2, 3))
        torch.testing.assert_close(method.predict(batch()).score, expected)


def test_recover_initialises_a_collapsed_discriminator_again_and_no_other():
    method = small()
    before = method.discriminator.classifier.weight.clone()
    assert method.recover({"discriminator": 0.4}, torch.Generator()) is None
    assert torch.equal(before, method.discriminator.classifier.weight)
    assert "discriminator" in str(method.recover({"discriminator": 1e-6}, torch.Generator()))
    assert not torch.equal(before, method.discriminator.classifier.weight)
