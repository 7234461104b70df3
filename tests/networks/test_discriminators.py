"""The inputs that the discriminators depend on."""

import pytest
import torch

from ganomaly.networks import Discriminator, JointDiscriminator, LatentDiscriminator, layer_norm


@pytest.mark.parametrize("image_size", [32, 64])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_joint_discriminator_depends_on_image_and_latent(image_size, channels):
    discriminator = JointDiscriminator(image_size, channels, nz=5, ndf=4).eval()
    x, z = torch.rand(3, channels, image_size, image_size), torch.rand(3, 5, 1, 1)
    logits, features = discriminator(x, z)
    assert logits.shape == (3,)
    assert features.shape == (3, 64, 1, 1)
    assert not torch.allclose(logits, discriminator(x.flip(0), z)[0])
    assert not torch.allclose(logits, discriminator(x, z.flip(0))[0])


def test_the_logits_of_the_latent_discriminator_follow_from_its_latents():
    discriminator = LatentDiscriminator(32, 1, nz=6, ndf=4).eval()
    logits, z = discriminator(torch.rand(4, 1, 32, 32))
    assert z.shape == (4, 6, 1, 1)
    torch.testing.assert_close(logits, z.flatten(1) @ discriminator.classifier.weight.flatten())


def test_with_layer_norm_the_images_of_a_training_batch_are_independent():
    x = torch.rand(4, 1, 32, 32)
    critic, with_batch_norm = Discriminator(32, 1, 4, normalise=layer_norm), Discriminator(32, 1, 4)
    torch.testing.assert_close(critic(x)[0][:1], critic(x[:1])[0])
    assert not torch.allclose(with_batch_norm(x)[0][:1], with_batch_norm(x[:1])[0])
