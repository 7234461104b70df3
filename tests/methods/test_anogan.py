"""AnoGAN is the publication's, and images do not influence each other in its search."""

import pytest
import torch
from torch.optim import SGD

from ganomaly.config import Preprocessing
from ganomaly.methods import anogan
from ganomaly.methods.anogan import AnoGAN, AnoGANOptions
from ganomaly.methods.base import Step, without_autocast
from ganomaly.prediction.pytorch import eval_mode

PREPROCESSING = Preprocessing(image_size=32, channels=1)


def small(**options: object) -> AnoGAN:
    checked = AnoGANOptions.checked(**{"nz": 8, "ngf": 4, "ndf": 4, "search_steps": 10, **options})
    return AnoGAN(checked, PREPROCESSING, torch.Generator().manual_seed(0))


def batch(n: int = 8, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, 1, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@pytest.fixture(scope="module")
def trained() -> AnoGAN:
    """Trained just enough for different latents to give different images."""
    method = small()
    optimizers = method.optimizers()
    for seed in range(20):
        method.training_step(batch(seed=seed), optimizers, without_autocast(), Step(0, 1))
    return method.eval()


def with_options(method: AnoGAN, **options: object) -> AnoGAN:
    other = small(**options).eval()
    other.load_state_dict(method.state_dict())
    return other


def reference_loss(method: AnoGAN, x: torch.Tensor, z: torch.Tensor, weight: float = 0.1) -> torch.Tensor:
    x_hat = method.generator(z)
    residual = (x - x_hat).abs().sum(dim=(1, 2, 3))
    discrimination = (method.discriminator(x)[1] - method.discriminator(x_hat)[1]).abs().sum(dim=(1, 2, 3))
    return (1 - weight) * residual + weight * discrimination


def sgd_optimizers(method: AnoGAN) -> dict[str, torch.optim.Optimizer]:
    return {name: SGD(getattr(method, name).parameters(), lr=1000.0) for name in method.optimizers()}


def test_published_defaults():
    options = AnoGAN.presets["anogan"].options
    assert isinstance(options, AnoGANOptions)
    assert (options.search_steps, options.discrimination_weight) == (500, 0.1)


def test_a_step_descends_the_gan_s_two_losses():
    method, reference = small(), small()
    # plain gradient descent, since Adam would amplify the rounding of gradients that nearly cancel
    method.training_step(batch(), sgd_optimizers(method), without_autocast(), Step(0, 1))
    z = 2 * reference.randomness.uniform((8, 8, 1, 1), torch.device("cpu")) - 1
    real = torch.sigmoid(reference.discriminator(batch())[0])
    fake = torch.sigmoid(reference.discriminator(reference.generator(z))[0])
    discriminator = -0.5 * (real.log().mean() + (1 - fake).log().mean())
    generator = -fake.log().mean()
    losses = {"discriminator": discriminator, "generator": generator}
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


def test_the_score_is_the_loss_at_the_best_latent(trained):
    with eval_mode(trained):
        z, losses = trained.search(batch())
        torch.testing.assert_close(losses, reference_loss(trained, batch(), z))
        torch.testing.assert_close(trained.predict(batch()).score, losses)
        torch.testing.assert_close(trained.predict(batch()).reconstruction, trained.generator(z))


def test_without_a_step_the_score_is_the_loss_at_the_start(trained):
    unsearched = with_options(trained, search_steps=0)
    with eval_mode(unsearched):
        expected = reference_loss(unsearched, batch(), unsearched.start.expand(8, -1, -1, -1))
        torch.testing.assert_close(unsearched.predict(batch()).score, expected)


def test_more_steps_never_raise_a_score_even_if_the_search_diverges(trained):
    """At this learning rate most steps raise the loss; the best latent of all steps counts."""
    before = torch.full((8,), torch.inf)
    for steps in (0, 1, 3, 6):
        # the learning rate depends on the number of steps, so only the start is the same in all searches
        diverging = with_options(trained, search_steps=steps, search_learning_rate=10.0)
        with eval_mode(diverging):
            scores = diverging.predict(batch()).score
        before = torch.minimum(before, scores) if steps == 0 else before
        assert (scores <= before).all()


def test_the_search_finds_an_image_that_the_generator_generated(trained):
    z = torch.rand(4, 8, 1, 1, generator=torch.Generator().manual_seed(5)) * 2 - 1
    with torch.no_grad():
        generated = trained.generator(z)
    searched = with_options(trained, search_steps=150)
    unsearched = with_options(trained, search_steps=0)
    with eval_mode(searched), eval_mode(unsearched):
        assert (searched.predict(generated).score < 0.2 * unsearched.predict(generated).score).all()


def test_the_score_of_an_image_is_the_same_to_the_last_bit_in_any_batch(trained):
    """Hundreds of steps would amplify any difference in rounding."""
    searched = with_options(trained, search_steps=50)
    n = anogan.SEARCH_BATCH_ON_PROCESSOR + 3
    with eval_mode(searched):
        together = searched.predict(batch(n)).score
        assert torch.equal(together.flip(0), searched.predict(batch(n).flip(0)).score)
        for position in (5, n - 1):
            alone = searched.predict(batch(n)[position : position + 1]).score
            assert torch.equal(together[position : position + 1], alone)


@pytest.mark.parametrize("n", [1, anogan.SEARCH_BATCH_ON_PROCESSOR, anogan.SEARCH_BATCH_ON_PROCESSOR + 1])
def test_all_batches_of_the_search_have_one_size_since_rounding_depends_on_it(n):
    method, sizes = small().eval(), set()
    method.generator.register_forward_hook(lambda _, inputs, __: sizes.add(len(inputs[0])))
    assert method.search(batch(n))[0].shape == (n, 8, 1, 1)
    assert sizes == {anogan.SEARCH_BATCH_ON_PROCESSOR}


def test_64_at_once_are_searched_as_one_by_one(trained):
    trained = with_options(trained, search_steps=3)
    with eval_mode(trained):
        together = trained.predict(batch(64)).score
        alone = torch.cat([trained.predict(image[None]).score for image in batch(64)])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=0)


def test_the_search_works_on_a_model_that_was_built_in_inference_mode(trained):
    with torch.inference_mode():
        built = with_options(trained)
        scores = built.predict(batch()).score
    assert torch.equal(scores, trained.predict(batch()).score)
