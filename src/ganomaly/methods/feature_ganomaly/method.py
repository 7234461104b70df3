"""Options, networks and training step."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.backbone_options import BackboneOptions
from ganomaly.methods.base import BatchPrediction, Method, Patches, Precision, Preset, Step
from ganomaly.methods.collapse import latent_collapse
from ganomaly.methods.feature_ganomaly.feature_networks import FeatureNetworks
from ganomaly.methods.feature_ganomaly.feature_signals import FeatureSignals
from ganomaly.methods.feature_ganomaly.pixel_signals import N_SIGNALS, PixelSignals
from ganomaly.methods.feature_ganomaly.scoring import SignalScoring
from ganomaly.methods.losses import robust_cross_entropy
from ganomaly.methods.normalisation import InputNormalisation
from ganomaly.methods.options import LatentSize, LearningRate, Weight, Width
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import BackboneLevels, Choice, InstalledBackbone, Range, Searched
from ganomaly.methods.signals import predict_one_by_one, predict_one_by_one_outside
from ganomaly.methods.synthetic_defects import with_defects
from ganomaly.methods.updates import set_learning_rate, update
from ganomaly.methods.views import at_both_scales
from ganomaly.networks import SEGMENTATION_STRIDE, PatchSegmentation, initialise_patch_weights
from ganomaly.networks.backbones import DEFAULT_BACKBONE


class FeatureGANomalyOptions(BackboneOptions):
    """Options of GANomaly over feature maps."""

    backbone: Annotated[str, Field(min_length=1, max_length=500)] = DEFAULT_BACKBONE
    """Name of the pretrained network, see `ganomaly.networks.backbones`."""
    levels: Annotated[str, Field(max_length=500)] = ""
    """Names of its levels, separated by commas; by default the deepest of each stride from 8 to 32."""
    learning_rate: LearningRate = 3e-3
    """Highest learning rate of AdamW; it rises for a twentieth of the steps, and falls to 0 along a cosine."""
    nz: LatentSize = 64
    """Size of the latent at each position."""
    ngf: Width = 128
    """Channels of encoders and decoder."""
    ndf: Width = 32
    """Half of the segmentation's channels at a quarter of the image's size; the discriminator has twice as many."""
    adversarial_weight: Weight = 1.0
    """Weight of the feature matching in the generator's loss."""
    contextual_weight: Weight = 20.0
    """Weight of the reconstruction in the generator's loss."""
    encoder_weight: Weight = 1.0
    """Weight of ‖z − ẑ‖² in the generator's loss."""
    reconstruction_share: float = Field(default=0.125, gt=0, le=1)
    """Share of a batch that the generator reconstructs; defects are segmented in all of it."""


class FeatureGANomaly(Method):
    """Encoder–decoder–encoder and discriminator over feature maps, a segmentation; eight signals give the score."""

    name: ClassVar[str] = "feature-ganomaly"
    options_type: ClassVar[type[MethodOptions]] = FeatureGANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "features": Preset(
            "GANomaly on features of a pretrained network, with a segmentation of defects: for images above 64 px",
            FeatureGANomalyOptions(),
            TrainingOptions(steps=1200, batch_size=16),
            Patches(image_size=256, patch_size=192),
        )
    }
    statistics_images: ClassVar[int] = 256
    search_space: ClassVar[Mapping[str, Searched]] = {
        "backbone": InstalledBackbone(),
        "levels": BackboneLevels(),
        "learning_rate": Range(1e-3, 1e-2),
        "nz": Choice((32, 64, 128)),
        "ngf": Choice((64, 128, 192)),
        "ndf": Choice((16, 32, 48)),
        "contextual_weight": Range(5, 80),
        "reconstruction_share": Range(0.0625, 0.5),
    }

    options: FeatureGANomalyOptions

    def __init__(
        self, options: FeatureGANomalyOptions, preprocessing: Preprocessing, generator: Generator
    ) -> None:
        super().__init__(options, preprocessing, generator)
        self.normalisation = InputNormalisation(preprocessing.channels)
        self.features = FeatureNetworks(
            options.describe_backbone(),
            width=options.ngf,
            discriminator_width=2 * options.ndf,
            nz=options.nz,
        )
        self.segmentation = PatchSegmentation(2 * preprocessing.channels, options.ndf)
        for network in (*self.features.trained(), self.segmentation):
            initialise_patch_weights(network, generator)
        self.randomness = Randomness(generator)
        self.feature_signals = FeatureSignals(self.features.compared, options.nz)
        self.pixel_signals = PixelSignals(options.ndf)
        self.scoring = SignalScoring(self.feature_signals.n_signals + N_SIGNALS)

    def load_pretrained(self) -> None:
        """Read the backbone's weights."""
        self.features.load_pretrained(self.options.backbone)

    def optimizers(self) -> dict[str, Optimizer]:
        """One AdamW for the generator (G_E, G_D, E), one for the discriminator, one for the segmentation."""
        return {
            "generator": self.options.adamw(self.features.generator_parameters()),
            "discriminator": self.options.adamw(self.features.discriminator.parameters()),
            "segmentation": self.options.adamw(self.segmentation.parameters()),
        }

    def fit_scales(self, x: Tensor) -> None:
        """Take statistics of pixels and of feature maps."""
        self.normalisation.fit(x)
        self.features.fit(x)

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """G and D learn the features of normal patches; defects are put into patches, and segmented."""
        options = self.options
        set_learning_rate(optimizers, options.learning_rate_at(step))
        random = self.randomness.next_generator()
        patches = at_both_scales(x, random)
        defective, mask, weight = with_defects(patches, float(self.normalisation.local_contrast), random)
        n_generator = min(len(x), max(2, round(options.reconstruction_share * len(x))))
        with precision.autocast():
            losses = self.features.training_losses(x[:n_generator], self.randomness, precision)
            (logits,) = precision.by_rows(lambda x: (self.segmentation(self.normalisation(x)),), defective)
        target = functional.max_pool2d(mask, SEGMENTATION_STRIDE)
        weight = functional.max_pool2d(weight, SEGMENTATION_STRIDE)
        losses["segmentation"] = robust_cross_entropy(logits.float(), target, weight)
        losses["generator"] = (
            options.adversarial_weight * losses["adversarial"]
            + options.contextual_weight * losses["contextual"]
            + options.encoder_weight * losses["encoder"]
        )
        update(
            {
                "generator": losses["generator"],
                "discriminator": losses["real_fake"],
                "segmentation": losses["segmentation"],
            },
            optimizers,
            precision,
        )
        return {name: loss.detach() for name, loss in losses.items()}

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fill the memory banks from one half of the images, and take statistics of the signals from the other."""
        self._fit_statistics([(image[None], None) for batch in batches for image in batch])

    def fit_statistics_outside(self, images: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The same of the positions that are not ignored."""
        self._fit_statistics(
            [(x[None], region) for batch in images for x, region in zip(*batch, strict=True)]
        )

    def bank_rows(self, x: Tensor, generator: Generator, ignored: Tensor | None = None) -> list[Tensor]:
        """Features of another normal image; whitening, statistics and weights stay."""
        return [
            *self.feature_signals.bank_rows(self.features, x, ignored, generator),
            *self.pixel_signals.bank_rows(self._segment, x, ignored, generator),
        ]

    def predict(self, x: Tensor) -> BatchPrediction:
        """Score and map say how far the signals are above those of normal images, see `scoring`."""
        return predict_one_by_one(partial(self.scoring.predict, self._signals), x)

    def predict_outside(self, x: Tensor, ignored: Tensor) -> BatchPrediction:
        """The same of the positions that are not ignored."""
        return predict_one_by_one_outside(partial(self.scoring.predict, self._signals), x, ignored)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        return self.features.discriminator_features(x)

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Say so when all patches have the same latent."""
        return latent_collapse(self.features.latent(x))

    def _fit_statistics(self, images: Sequence[tuple[Tensor, Tensor | None]]) -> None:
        bank_images, bank_ignored = zip(*images[::2], strict=True)
        reference_images, reference_ignored = zip(*(images[1::2] or images), strict=True)
        generator = Generator().manual_seed(0)
        self.feature_signals.fit(self.features, bank_images, bank_ignored, generator)
        self.pixel_signals.fit(self._segment, bank_images, bank_ignored, generator)
        contrast = float(self.normalisation.local_contrast)
        self.scoring.fit(self._signals, reference_images, reference_ignored, contrast)

    def _signals(self, x: Tensor) -> Tensor:
        """All signals, `float[N, K, ⌈H/2⌉, ⌈W/2⌉]`."""
        return torch.cat(
            [self.feature_signals(self.features, x), self.pixel_signals(self._segment, x)], dim=1
        )

    def _segment(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits of a defect, and the segmentation network's features at 1/4 and at 1/8."""
        features = self.segmentation.features(self.normalisation(x))
        return self.segmentation.segmentation(*features), features[1], features[2]
