"""Options, networks and training step."""

from collections.abc import Iterable, Mapping
from functools import partial
from itertools import chain
from typing import ClassVar

import torch
from pydantic import Field
from torch import Generator, Tensor
from torch.nn import functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Patches, Precision, Preset, Step
from ganomaly.methods.collapse import latent_collapse
from ganomaly.methods.losses import adversarial_loss, mean_square_error, robust_cross_entropy
from ganomaly.methods.normalisation import InputNormalisation
from ganomaly.methods.options import LatentSize, LearningRate, ScheduledOptions, Weight, Width
from ganomaly.methods.patch_ganomaly.scoring import NetworkOutputs, PatchScoring
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.search_space import Choice, Range, Searched
from ganomaly.methods.signals import predict_one_by_one, predict_one_by_one_outside
from ganomaly.methods.synthetic_defects import with_defects
from ganomaly.methods.updates import frozen, frozen_statistics, set_learning_rate, update
from ganomaly.methods.views import at_both_scales
from ganomaly.networks import (
    LATENT_STRIDE,
    SEGMENTATION_STRIDE,
    PatchDecoder,
    PatchDiscriminator,
    PatchEncoder,
    initialise_patch_weights,
)


class PatchGANomalyOptions(ScheduledOptions):
    """Options of GANomaly for patches."""

    learning_rate: LearningRate = 3e-3
    """Highest learning rate of AdamW; it rises for a twentieth of the steps, and falls to 0 along a cosine."""
    nz: LatentSize = 64
    """Size of the latent at each position."""
    ngf: Width = 32
    """Feature channels of the first layer of encoders, the last of the decoder."""
    ndf: Width = 32
    """Feature channels of the discriminator's first layer."""
    adversarial_weight: Weight = 1.0
    """Weight of the feature matching in the generator's loss."""
    contextual_weight: Weight = 20.0
    """Weight of the reconstruction in the generator's loss."""
    encoder_weight: Weight = 1.0
    """Weight of ‖z − ẑ‖² in the generator's loss."""
    reconstruction_share: float = Field(default=0.5, gt=0, le=1)
    """Share of a batch that the generator reconstructs; the discriminator segments defects in all of it."""
    segmentation_weight: Weight = 20.0
    """Weight of the segmentation of synthetic defects in the discriminator's loss; that of real/fake is 1."""


class PatchGANomaly(Method):
    """Encoder–decoder–encoder and discriminator over patches; four signals at each position give the score."""

    name: ClassVar[str] = "patch-ganomaly"
    options_type: ClassVar[type[MethodOptions]] = PatchGANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "patches": Preset(
            "GANomaly on patches, for small defects on parts: a score for each position of images of any size",
            PatchGANomalyOptions(),
            TrainingOptions(steps=1500, batch_size=16),
            Patches(image_size=256, patch_size=192),
        )
    }
    statistics_images: ClassVar[int] = 256
    search_space: ClassVar[Mapping[str, Searched]] = {
        "learning_rate": Range(1e-3, 1e-2),
        "nz": Choice((32, 64, 128)),
        "ngf": Choice((16, 32, 48)),
        "ndf": Choice((16, 32, 48)),
        "contextual_weight": Range(5, 80),
        "segmentation_weight": Range(5, 80),
        "reconstruction_share": Range(0.25, 1),
    }

    options: PatchGANomalyOptions

    def __init__(
        self, options: PatchGANomalyOptions, preprocessing: Preprocessing, generator: Generator
    ) -> None:
        super().__init__(options, preprocessing, generator)
        self.normalisation = InputNormalisation(preprocessing.channels)
        channels = 2 * preprocessing.channels
        self.encoder = PatchEncoder(channels, options.ngf, options.nz)  # G_E
        self.decoder = PatchDecoder(channels, options.ngf, options.nz)  # G_D
        self.reconstruction_encoder = PatchEncoder(channels, options.ngf, options.nz)  # E
        self.discriminator = PatchDiscriminator(channels, options.ndf)  # D
        initialise_patch_weights(self, generator)
        self.randomness = Randomness(generator)
        self.scoring = PatchScoring(options.nz, options.ndf)

    def optimizers(self) -> dict[str, Optimizer]:
        """One AdamW for the generator (G_E, G_D, E), one for the discriminator."""
        generator = chain(
            self.encoder.parameters(), self.decoder.parameters(), self.reconstruction_encoder.parameters()
        )
        return {
            "generator": self.options.adamw(generator),
            "discriminator": self.options.adamw(self.discriminator.parameters()),
        }

    def fit_scales(self, x: Tensor) -> None:
        """Take mean and standard deviation of each channel, and the local contrast."""
        self.normalisation.fit(x)

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Put synthetic defects into the patches; G learns to remove them, D to segment them, and real from fake."""
        options = self.options
        set_learning_rate(optimizers, options.learning_rate_at(step))
        random = self.randomness.next_generator()
        x = at_both_scales(x, random)
        defective, mask, weight = with_defects(x, float(self.normalisation.local_contrast), random)
        n_generator = min(len(x), max(2, round(options.reconstruction_share * len(x))))
        n_adversarial = min(n_generator, max(2, n_generator // 2))  # as good as all, and quicker
        normal = self.normalisation(x[:n_generator])
        defective = self.normalisation(defective)
        with precision.autocast():
            z, x_hat, z_hat = precision.by_rows(self._reconstruction, defective[:n_generator])
            segmentation_logits, real_logits = precision.by_rows(self.discriminator, defective)
            with frozen_statistics(self.discriminator):
                fake_logits, fake_features, real_features = precision.by_rows(
                    self._adversarial_outputs, x_hat[:n_adversarial], normal[:n_adversarial]
                )
        adversarial = mean_square_error(fake_features, real_features)
        contextual = functional.l1_loss(x_hat.float(), normal)
        # only where there is no defect are z and ẑ latents of the same image
        unchanged = 1 - functional.max_pool2d(mask[:n_generator], LATENT_STRIDE)
        encoder = ((z_hat.float() - z.float()) ** 2 * unchanged).mean()
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.encoder_weight * encoder
        )
        target = functional.max_pool2d(mask, SEGMENTATION_STRIDE)
        weight = functional.max_pool2d(weight, SEGMENTATION_STRIDE)
        segmentation = robust_cross_entropy(segmentation_logits.float(), target, weight)
        real_fake = adversarial_loss(real_logits, fake_logits)
        discriminator = options.segmentation_weight * segmentation + real_fake
        update({"generator": generator, "discriminator": discriminator}, optimizers, precision)
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoder": encoder,
            "segmentation": segmentation,
            "real_fake": real_fake,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Take the statistics of the signals of normal images."""
        images = [image[None] for batch in batches for image in batch]
        self.scoring.fit(self._outputs, images, [None] * len(images))

    def fit_statistics_outside(self, images: Iterable[tuple[Tensor, Tensor]]) -> None:
        """The same of the positions that are not ignored."""
        single = [(x[None], region) for batch in images for x, region in zip(*batch, strict=True)]
        self.scoring.fit(self._outputs, [x for x, _ in single], [region for _, region in single])

    def bank_rows(self, x: Tensor, generator: Generator, ignored: Tensor | None = None) -> list[Tensor]:
        """Features of another normal image; whitening and statistics stay."""
        return self.scoring.bank_rows(self._outputs, x, ignored, generator)

    def predict(self, x: Tensor) -> BatchPrediction:
        """Score and map say how far the signals are above those of normal images, see `scoring`."""
        return predict_one_by_one(partial(self.scoring.predict, self._outputs), x)

    def predict_outside(self, x: Tensor, ignored: Tensor) -> BatchPrediction:
        """The same of the positions that are not ignored."""
        return predict_one_by_one_outside(partial(self.scoring.predict, self._outputs), x, ignored)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        features: Tensor = self.discriminator.real_fake(self.normalisation(x))[1]
        return features

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Say so when all patches have the same latent."""
        return latent_collapse(self.encoder(self.normalisation(x)))

    def _reconstruction(self, x: Tensor) -> tuple[Tensor, ...]:
        """z, x̂, ẑ."""
        z = self.encoder(x)  # [n, nz, S/8, S/8]
        x_hat = self.decoder(z)  # [n, 2C, S, S]
        return z, x_hat, self.reconstruction_encoder(x_hat)

    def _adversarial_outputs(self, x_hat: Tensor, normal: Tensor) -> tuple[Tensor, ...]:
        """D's logits of x̂ for D's loss; its features of x̂, and of what x̂ should be, for the generator's."""
        fake_logits, _ = self.discriminator.real_fake(x_hat.detach())
        with frozen(self.discriminator):
            _, fake_features = self.discriminator.real_fake(x_hat)
            with torch.no_grad():
                _, real_features = self.discriminator.real_fake(normal)
        return fake_logits, fake_features, real_features

    def _outputs(self, x: Tensor) -> NetworkOutputs:
        """Run each network once."""
        normalised = self.normalisation(x)
        z = self.encoder(normalised)
        x_hat = self.decoder(z)
        z_hat = self.reconstruction_encoder(x_hat)
        features = self.discriminator.features(normalised)
        flat, flat_hat = (self.normalisation.at_local_contrast(image) for image in (normalised, x_hat))
        return NetworkOutputs(
            latent_difference=z - z_hat,
            features=features[1:3],
            segmentation=self.discriminator.segmentation(*features),
            error=(flat - flat_hat).abs().mean(dim=1, keepdim=True),
            x_hat=self.normalisation.inverse(x_hat),
        )
