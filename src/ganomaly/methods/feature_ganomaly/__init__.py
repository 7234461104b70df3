"""GANomaly over the feature maps of a pretrained backbone, and a segmentation of defects, for images of any size.

The core is GANomaly's (Akcay, Atapour-Abarghouei, Breckon, ACCV 2018): encoder–decoder–encoder, adversarial training,
a score from the difference between z and ẑ. It works on the feature maps of a frozen network instead of pixels
(`feature_networks`), so it learns what normal parts consist of. Four kinds of signals, at each position, give the
score:

- ‖z − ẑ‖, and the reconstruction error of the feature maps;
- the distance of the backbone's features to those of normal images (Roth et al., *PatchCore*, CVPR 2022);
- the segmentation of synthetic defects by a second network, which sees pixels, at two scales
  (`ganomaly.methods.synthetic_defects`; Li et al., *CutPaste*, CVPR 2021; Zavrtanik et al., *DRAEM*, ICCV 2021);
- the distance of that network's features to those of normal images.

Pretrained features see what is of another kind, the segmentation sees small marks, and where no normal image is like
another only the segmentation sees anything. So the signals are weighted, all together, as best tells normal images
with synthetic defects from those without (`scoring`).
"""

from ganomaly.methods.feature_ganomaly.method import FeatureGANomaly, FeatureGANomalyOptions

__all__ = ["FeatureGANomaly", "FeatureGANomalyOptions"]
