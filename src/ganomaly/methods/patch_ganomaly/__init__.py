"""GANomaly for patches: a latent, and so a score, for each position of an image of any size.

The core is GANomaly's (Akcay, Atapour-Abarghouei, Breckon, ACCV 2018): encoder–decoder–encoder, adversarial training,
a score from the difference between z and ẑ. Around it:

- networks without a bottleneck over the whole image, trained on patches, applied to whole images (`method`);
- synthetic defects in normal patches, which the generator learns to remove and the discriminator to segment
  (`ganomaly.methods.synthetic_defects`);
- the same networks see the image at two scales, because what is large at one is small at the other (`scoring`);
- beside z − ẑ, three more signals: the segmentation, the difference of image and reconstruction, and the distance of
  the discriminator's features to those of normal images (Roth et al., *PatchCore*, CVPR 2022, with features learned
  here instead of on ImageNet);
- each signal is standardised by normal images at that position, and its top-k mean by normal images of that size
  (`ganomaly.methods.reference_statistics`).
"""

from ganomaly.methods.patch_ganomaly.method import PatchGANomaly, PatchGANomalyOptions

__all__ = ["PatchGANomaly", "PatchGANomalyOptions"]
