"""The networks: modules only, no losses, no files.

`Encoder`, `Decoder` and `Discriminator` are the DCGAN pyramids of the publication (figure 2); the other methods'
networks are built from the same blocks.
"""

from ganomaly.networks.discriminators import JointDiscriminator, LatentDiscriminator
from ganomaly.networks.pyramid import Decoder, Discriminator, Encoder, check_image_size, layer_norm
from ganomaly.networks.unet import UNet
from ganomaly.networks.weights import initialise_weights

__all__ = [
    "Decoder",
    "Discriminator",
    "Encoder",
    "JointDiscriminator",
    "LatentDiscriminator",
    "UNet",
    "check_image_size",
    "initialise_weights",
    "layer_norm",
]
