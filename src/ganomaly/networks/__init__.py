"""The networks: modules only, no losses, no files.

`Encoder`, `Decoder` and `Discriminator` are the DCGAN networks of the publication; those of the other methods have
the same blocks. `PatchEncoder`, `PatchDecoder` and `PatchDiscriminator` take images of any size; `FeatureEncoder`,
`FeatureDecoder` and `FeatureDiscriminator` take the feature maps of a backbone.
"""

from ganomaly.networks.dcgan import Decoder, Discriminator, Encoder, check_image_size, layer_norm
from ganomaly.networks.discriminators import JointDiscriminator, LatentDiscriminator
from ganomaly.networks.feature_maps import (
    FEATURE_STRIDE,
    MIN_JOINED_STRIDE,
    FeatureDecoder,
    FeatureDiscriminator,
    FeatureEncoder,
    at_stride,
)
from ganomaly.networks.patches import (
    LATENT_STRIDE,
    SEGMENTATION_STRIDE,
    STRIDE,
    PatchDecoder,
    PatchDiscriminator,
    PatchEncoder,
    PatchSegmentation,
    initialise_patch_weights,
    upsampled_to,
)
from ganomaly.networks.tiling import apply_in_tiles, reflect_to_multiple
from ganomaly.networks.unet import UNet
from ganomaly.networks.weights import draw_he_normal, initialise_weights

__all__ = [
    "FEATURE_STRIDE",
    "LATENT_STRIDE",
    "MIN_JOINED_STRIDE",
    "SEGMENTATION_STRIDE",
    "STRIDE",
    "Decoder",
    "Discriminator",
    "Encoder",
    "FeatureDecoder",
    "FeatureDiscriminator",
    "FeatureEncoder",
    "JointDiscriminator",
    "LatentDiscriminator",
    "PatchDecoder",
    "PatchDiscriminator",
    "PatchEncoder",
    "PatchSegmentation",
    "UNet",
    "apply_in_tiles",
    "at_stride",
    "check_image_size",
    "draw_he_normal",
    "initialise_patch_weights",
    "initialise_weights",
    "layer_norm",
    "reflect_to_multiple",
    "upsampled_to",
]
