"""The networks: modules only, no losses, no files.

`Encoder`, `Decoder` and `Discriminator` are the DCGAN pyramids of the publication (figure 2).
"""

from ganomaly.networks.pyramid import Decoder, Discriminator, Encoder, check_image_size
from ganomaly.networks.weights import initialise_weights

__all__ = ["Decoder", "Discriminator", "Encoder", "check_image_size", "initialise_weights"]
