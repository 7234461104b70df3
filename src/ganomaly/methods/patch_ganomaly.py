"""GANomaly for patches: a latent, and so a score, for each place of an image of any size.

The heart is GANomaly's (Akcay, Atapour-Abarghouei, Breckon, ACCV 2018): encoder–decoder–encoder, adversarial
training, a score from disagreement between z and ẑ. Around it:

- networks without a bottleneck over the whole image, trained on patches, applied to whole images;
- defects made from normal images, which the generator learns to undo and the discriminator to spot
  (`synthetic_defects`);
- the same networks look at the image at two scales, for what is large in one is small in the other;
- beside z − ẑ, other disagreements: of image and reconstruction, of the discriminator's features and those of normal
  images (Roth et al., *PatchCore*, CVPR 2022, with features learned here instead of on ImageNet);
- every signal is measured against what normal images do at that position, and its top-k mean against those of normal
  images (`reference_statistics`).
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import chain
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import ModuleList, functional
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.methods.base import BatchPrediction, Method, Patches, Precision, Preset, Step
from ganomaly.methods.collapse import same_latent
from ganomaly.methods.losses import adversarial_loss, mean_square_error
from ganomaly.methods.neighbours import NeighbourBank
from ganomaly.methods.options import ScheduledOptions
from ganomaly.methods.randomness import Randomness
from ganomaly.methods.reference_statistics import PositionStatistics, SizeStatistics
from ganomaly.methods.synthetic_defects import local_contrast, with_defects
from ganomaly.methods.updates import frozen, set_learning_rate, statistics_kept, update
from ganomaly.networks import (
    LATENT_STRIDE,
    SPOT_STRIDE,
    STRIDE,
    PatchDecoder,
    PatchDiscriminator,
    PatchEncoder,
    in_tiles,
    initialise_patch_weights,
    padded_to_multiple,
)

CONTRAST_WINDOW = 31  # px, within which contrast is normalised
ROBUSTNESS = 0.5  # 0: cross-entropy; 1: mean absolute error
MARGIN = 192  # px, more than any output's view; a multiple of STRIDE
TILE = 768  # px
# features of normal images that are kept at each scale, which is half as large as the one before: of D's features at
# 1/4 of the scale's size, at 1/8
BANKS = (512, 1024)
SCALES = len(BANKS)
# of the signals at each scale: what D spots, |x − x̂|, D's features far from normal ones, z − ẑ
WEIGHTS = (1.0, 1.0, 1.0, 0.5)
MOST_PLACES = 2**15  # of an image that a bank may choose from, which bounds memory
TINY = 1e-6


class PatchGANomalyOptions(ScheduledOptions):
    """Options of GANomaly for patches."""

    learning_rate: float = Field(default=3e-3, gt=0)
    """Highest learning rate of AdamW; it rises for a twentieth of the steps, and falls to 0 along a cosine."""
    nz: int = Field(default=64, ge=1)
    """Size of the latent at each place."""
    ngf: int = Field(default=32, ge=1)
    """Feature channels of the first layer of encoders, the last of the decoder."""
    ndf: int = Field(default=32, ge=1)
    """Feature channels of the discriminator's first layer."""
    adversarial_weight: float = Field(default=1.0, ge=0)
    """Of the feature matching in the generator's loss."""
    contextual_weight: float = Field(default=20.0, ge=0)
    """Of the reconstruction in the generator's loss."""
    encoder_weight: float = Field(default=1.0, ge=0)
    """Of ‖z − ẑ‖² in the generator's loss."""
    rebuilt_share: float = Field(default=0.5, gt=0, le=1)
    """Share of a batch that the generator learns from; the discriminator spots defects in all of it."""
    spotting_weight: float = Field(default=20.0, ge=0)
    """Of spotting defects against telling real from reconstructed, in the discriminator's loss."""


class PatchGANomaly(Method):
    """Encoder–decoder–encoder and discriminator over patches; four signals at each place make the score."""

    name: ClassVar[str] = "patch-ganomaly"
    options_type: ClassVar[type[MethodOptions]] = PatchGANomalyOptions
    presets: ClassVar[Mapping[str, Preset]] = {
        "patches": Preset(
            "GANomaly on patches, for small defects on parts: a score for each place of images of any size",
            PatchGANomalyOptions(),
            TrainingOptions(steps=1500, batch_size=16),
            Patches(image_size=256, patch_size=192),
        )
    }
    statistics_images: ClassVar[int] = 256

    options: PatchGANomalyOptions
    channel_mean: Tensor
    channel_spread: Tensor
    contrast: Tensor

    def __init__(
        self, options: PatchGANomalyOptions, preprocessing: Preprocessing, generator: Generator
    ) -> None:
        super().__init__(options, preprocessing, generator)
        self.channels = preprocessing.channels
        views = 2 * self.channels
        self.encoder = PatchEncoder(views, options.ngf, options.nz)  # G_E
        self.decoder = PatchDecoder(views, options.ngf, options.nz)  # G_D
        self.reconstruction_encoder = PatchEncoder(views, options.ngf, options.nz)  # E
        self.discriminator = PatchDiscriminator(views, options.ndf)  # D
        initialise_patch_weights(self, generator)
        self.randomness = Randomness(generator)
        self.register_buffer("channel_mean", torch.zeros(self.channels))
        self.register_buffer("channel_spread", torch.ones(self.channels))
        self.register_buffer("contrast", torch.tensor(0.05))
        self.scales = ModuleList(
            Normal(options.nz, 2 ** (1 + number) * options.ndf, bank) for number, bank in enumerate(BANKS)
        )
        self.places = PositionStatistics(SCALES * len(WEIGHTS))
        self.sizes = SizeStatistics(SCALES * len(WEIGHTS))

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
        """Take the scales of the images: mean and spread of each channel, and the usual local contrast."""
        self.channel_mean.copy_(x.mean(dim=(0, 2, 3)))
        self.channel_spread.copy_(x.std(dim=(0, 2, 3)).clamp_min(2 / 255))
        self.contrast.fill_(local_contrast(x))

    def training_step(
        self, x: Tensor, optimizers: Mapping[str, Optimizer], precision: Precision, step: Step
    ) -> dict[str, Tensor]:
        """Put defects into the patches; G learns to undo them, D to spot them and to tell real from reconstructed."""
        options = self.options
        set_learning_rate(optimizers, options.rate_at(step))
        random = self.randomness.next()
        x = _at_both_scales(x, random)
        altered, changed, importance = with_defects(x, float(self.contrast), random)
        rebuilt = min(len(x), max(2, round(options.rebuilt_share * len(x))))
        judged = min(rebuilt, max(2, rebuilt // 2))  # enough for the adversarial game
        views, altered = self._views(x[:rebuilt]), self._views(altered)
        with precision.autocast():
            z = self.encoder(altered[:rebuilt])  # [n, nz, S/8, S/8]
            x_hat = self.decoder(z)  # [n, 2C, S, S]
            z_hat = self.reconstruction_encoder(x_hat)
            spotted, real = self.discriminator(altered)
            with statistics_kept(self.discriminator):
                fake, _ = self.discriminator.judge(x_hat[:judged].detach())
                with frozen(self.discriminator):
                    _, fake_features = self.discriminator.judge(x_hat[:judged])
                    with torch.no_grad():
                        _, real_features = self.discriminator.judge(views[:judged])
        adversarial = mean_square_error(fake_features, real_features)
        contextual = functional.l1_loss(x_hat.float(), views)
        # only where nothing was changed are both latents of the same
        kept = 1 - functional.max_pool2d(changed[:rebuilt], LATENT_STRIDE)
        encoder = ((z_hat.float() - z.float()) ** 2 * kept).mean()
        generator = (
            options.adversarial_weight * adversarial
            + options.contextual_weight * contextual
            + options.encoder_weight * encoder
        )
        truth, importance = (functional.max_pool2d(each, SPOT_STRIDE) for each in (changed, importance))
        spotting = robust_cross_entropy(spotted.float(), truth, importance)
        telling = adversarial_loss(real, fake)
        discriminator = options.spotting_weight * spotting + telling
        update({"generator": generator, "discriminator": discriminator}, optimizers, precision)
        losses = {
            "generator": generator,
            "adversarial": adversarial,
            "contextual": contextual,
            "encoder": encoder,
            "spotting": spotting,
            "discriminator": telling,
        }
        return {name: loss.detach() for name, loss in losses.items()}

    def fit_statistics(self, batches: Iterable[Tensor]) -> None:
        """Fill the banks from one half of the images, and learn from the other half what is usual at a place."""
        images = [image[None] for batch in batches for image in batch]
        for_banks, for_places = images[::2], images[1::2] or images
        generator = Generator().manual_seed(0)
        for number, normal in enumerate(self.scales):
            assert isinstance(normal, Normal)
            normal.learn([self._found(number, image, generator) for image in for_banks], generator)
        signals = [self._signals(image)[0] for image in for_places]
        self.places.learn([each[0] for each in signals])
        self.sizes.learn(self._above_usual(each)[0] for each in signals)

    def discriminator_features(self, x: Tensor) -> Tensor:
        """f(x), D's last features."""
        features: Tensor = self.discriminator.judge(self._views(x))[1]
        return features

    def predict(self, x: Tensor) -> BatchPrediction:
        """Predict images one by one, so that neither rounding nor memory depends on the batch.

        The score says how far the top-k means are above those of normal images of the size. Each signal at each scale
        is measured by itself, because one may show what another misses; softplus keeps it ≥ 0, and the root of the
        mean of squares combines them. The map says how far the signals are above those of normal images at each
        position, in units of their local scale.
        """
        if torch.compiler.is_exporting():
            return self._findings(x)
        found = [self._findings(image) for image in torch.split(x, 1)]
        parts = [(each.score, each.anomaly_map, each.reconstruction) for each in found]
        return BatchPrediction(*(torch.cat(each) for each in zip(*parts, strict=True)))

    def collapse(self, x: Tensor, step: Step) -> str | None:
        """Say so when all patches have the same latent."""
        return same_latent(self.encoder(self._views(x)))

    def _views(self, x: Tensor) -> Tensor:
        """What the networks see, `float[N, 2C, H, W]`: the image, and the image at normalised local contrast."""
        plain = (x - self.channel_mean[:, None, None]) / self.channel_spread[:, None, None]
        mean = _box(x)
        variance = (_box(x * x) - mean * mean).clamp_min(0)
        flat = (x - mean) / (variance + self.contrast**2).sqrt()
        return torch.cat([plain, flat], dim=1).contiguous(memory_format=torch.channels_last)

    def _findings(self, x: Tensor) -> BatchPrediction:
        """Predictor images of one size."""
        signals, x_hat = self._signals(x)
        above = self._above_usual(signals)
        score = _together(functional.softplus(self.sizes(above)))
        places = _together(above)[:, None]
        whole = functional.interpolate(places, scale_factor=SPOT_STRIDE, mode="bilinear", align_corners=False)
        return BatchPrediction(score, whole[:, 0, : x.shape[2], : x.shape[3]], x_hat)

    def _signals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The signals at half the size of images `float[N, C, H, W]`, `float[N, K, ⌈H/2⌉, ⌈W/2⌉]`, and x̂.

        Images are mirrored at their rim, and large ones are taken in tiles. x̂ is that of the finest scale.
        """
        found: list[Tensor] = []
        for number in range(SCALES):
            of_tile = partial(self._signals_of_tile, number)
            padded = _prepared(x, number)
            if torch.compiler.is_exporting():
                signals, x_hat = of_tile(padded)
            else:
                signals, x_hat = in_tiles(of_tile, padded, tile=TILE, margin=MARGIN, strides=(SPOT_STRIDE, 1))
            height, width = (_divided(side, 2**number) for side in x.shape[2:])
            rim = STRIDE // SPOT_STRIDE
            below, right = (rim + _divided(side, SPOT_STRIDE) for side in (height, width))
            inner = signals[:, :, rim:below, rim:right]
            if number == 0:
                shown = x_hat[:, :, STRIDE : STRIDE + height, STRIDE : STRIDE + width]
            else:
                inner = _enlarged(inner, found[0])
            found.append(inner)
        return torch.cat(found, dim=1), shown

    def _signals_of_tile(self, number: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """The signals of a scale, `float[N, 4, H/2, W/2]`, and x̂, `float[N, C, H, W]`, of `float[N, C, H, W]`."""
        difference, features, spotted, error, x_hat = self._networks(number, x)
        distances = [(each + TINY).log() for each in (error, *self.scales[number](difference, features))]
        return torch.cat([spotted, *(_enlarged(each, spotted) for each in distances)], dim=1), x_hat

    def _found(self, number: int, image: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """z − ẑ, `float[1, nz, h, w]`, and D's features, `float[1, K, …]`: of large images some of the places."""
        difference, features = in_tiles(
            lambda x: self._networks(number, x)[:2],
            _prepared(image, number),
            tile=TILE,
            margin=MARGIN,
            strides=(LATENT_STRIDE, 4 * 2**number),
        )
        places = features.flatten(2)
        if places.shape[2] > MOST_PLACES:
            places = places[:, :, torch.randperm(places.shape[2], generator=generator)[:MOST_PLACES]]
        return difference, places[:, :, None]

    def _networks(self, number: int, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """z − ẑ; D's features, at 1/4 or at 1/8; what D spots; |x − x̂| at normalised local contrast; x̂."""
        views = self._views(x)
        z = self.encoder(views)
        x_hat = self.decoder(z)
        features = self.discriminator.features(views)
        spotted, _ = self.discriminator.verdicts(*features)
        flat, flat_hat = views[:, self.channels :], x_hat[:, self.channels :]
        error = (flat - flat_hat).abs().mean(dim=1, keepdim=True)
        shown = x_hat[:, : self.channels] * self.channel_spread[:, None, None]
        return (
            z - self.reconstruction_encoder(x_hat),
            _smooth(features[1 + number], 3),
            _smooth(spotted, 3),
            _smooth(functional.avg_pool2d(error, SPOT_STRIDE), 5),
            (shown + self.channel_mean[:, None, None]).clamp(-1, 1),
        )

    def _above_usual(self, signals: Tensor) -> Tensor:
        """How far signals `float[N, K, h, w]` lie above what is usual at their places, in reaches; ≥ 0."""
        measured: Tensor = self.places(signals)
        return measured.clamp_min(0)


class Normal(nn.Module):
    """What z − ẑ and the discriminator's features are like in normal images, at one scale.

    Parameters
    ----------
    nz, channels : int
        Size of the latent; channels of the discriminator's features.
    bank : int
        Features that are kept.
    """

    latent_mean: Tensor
    latent_whitening: Tensor

    def __init__(self, nz: int, channels: int, bank: int) -> None:
        super().__init__()
        self.register_buffer("latent_mean", torch.zeros(nz))
        self.register_buffer("latent_whitening", torch.eye(nz))
        self.bank = NeighbourBank(channels, bank)

    def learn(self, found: Sequence[tuple[Tensor, Tensor]], generator: Generator) -> None:
        """Learn from z − ẑ, `float[1, nz, h, w]`, and D's features, `float[1, K, …]`, of normal images."""
        differences = torch.cat([difference[0].flatten(1) for difference, _ in found], dim=1)
        covariance = torch.cov(differences).double().cpu().reshape(len(differences), -1)
        ridge = 1e-4 * covariance.diagonal().mean().clamp_min(1e-12)
        values, vectors = torch.linalg.eigh(covariance + ridge * torch.eye(len(covariance)))
        self.latent_mean.copy_(differences.mean(dim=1))
        self.latent_whitening.copy_(vectors * values.rsqrt())
        self.bank.learn([features[0] for _, features in found], generator)

    def forward(self, difference: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """How far from normal D's features and z − ẑ are, `float[N, 1, h, w]` each."""
        latent = ((difference.permute(0, 2, 3, 1) - self.latent_mean) @ self.latent_whitening).norm(dim=3)
        return self.bank(features)[:, None], _smooth(latent[:, None], 3)


def robust_cross_entropy(logits: Tensor, truth: Tensor, importance: Tensor) -> Tensor:
    """Generalised binary cross-entropy (1 − pᵠ)/q of the probability p that the truth was given; a scalar.

    It is a weighted mean. What cannot be known counts less than in cross-entropy: that a place within a stain differs
    from what was there before, where only the stain's rim shows it.

    Source: Zhang, Sabuncu, *Generalized Cross Entropy Loss for Training Deep Neural Networks with Noisy Labels*,
    NeurIPS 2018.
    """
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    lost = (1 - torch.exp(-ROBUSTNESS * cross_entropy)) / ROBUSTNESS
    return (lost * importance).sum() / importance.sum()


def _together(signals: Tensor) -> Tensor:
    """The root of the weighted mean of squares over the signals at all scales: `float[N, K, …]` to `float[N, …]`."""
    weights = signals.new_tensor(SCALES * WEIGHTS)
    return (signals.square().movedim(1, -1) @ (weights / weights.sum())).sqrt()


def _at_both_scales(x: Tensor, random: np.random.Generator) -> Tensor:
    """Half of the patches made half as large, and as large a part of each of the others: `float[N, C, S/2, S/2]`.

    Each is mirrored or not, by chance.
    """
    half = x.shape[-1] // 2
    seen = []
    for number, patch in enumerate(x):
        top, left = (int(random.integers(half + 1)) for _ in range(2))
        part = patch[:, top : top + half, left : left + half]
        chosen = part if number % 2 else functional.avg_pool2d(patch, 2)
        seen.append(chosen.flip([axis for axis in (1, 2) if random.random() < 0.5]))
    return torch.stack(seen)


def _prepared(image: Tensor, number: int) -> Tensor:
    """An image at one of the scales, mirrored at its rim."""
    factor = 2**number
    if factor > 1:
        image = functional.avg_pool2d(padded_to_multiple(image, factor, 0), factor)
    return padded_to_multiple(image, STRIDE, STRIDE)


def _divided(side: int, by: int) -> int:
    """Rounded up; of whole numbers above 0 only, since a graph and Python round others differently."""
    return (side + by - 1) // by


def _enlarged(x: Tensor, like: Tensor) -> Tensor:
    return functional.interpolate(x, size=like.shape[2:], mode="bilinear", align_corners=False)


def _smooth(x: Tensor, window: int) -> Tensor:
    return functional.avg_pool2d(x, window, 1, window // 2, count_include_pad=False)


def _box(x: Tensor) -> Tensor:
    """The mean within a window, mirrored at the rim; as matrix products, which for a large one beat pooling."""
    padded = padded_to_multiple(x, 1, CONTRAST_WINDOW // 2)
    rows, columns = (_window(side, x) for side in x.shape[2:])
    return rows @ padded @ columns.t()


def _window(side: int, like: Tensor) -> Tensor:
    """What takes the mean of each window of a padded side: `float[side, side + CONTRAST_WINDOW − 1]`."""
    place = torch.arange(side, device=like.device)[:, None]
    padded = torch.arange(side + CONTRAST_WINDOW - 1, device=like.device)
    inside = (padded >= place) & (padded < place + CONTRAST_WINDOW)
    return inside.to(like.dtype) / CONTRAST_WINDOW
