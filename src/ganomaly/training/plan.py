"""What is decided before an image is decoded: preset, options, network input, and which images train.

All of it follows from the headers of the images, the options and the seed. `fit` and the benchmark share it.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import images_needed
from ganomaly.config import (
    AUTO,
    SCALE_STEPS,
    CalibrationOptions,
    FitOptions,
    MethodOptions,
    Preprocessing,
    TrainingOptions,
    length_in_words,
)
from ganomaly.data import (
    ImageDataset,
    ImageLoader,
    Inspection,
    TrainingSplit,
    check_enough_images,
    joined_split,
    split_normal_images,
    suggested_image_size,
)
from ganomaly.data.fingerprint import SAMPLE_SIZE
from ganomaly.data.ignored_region import mask_of
from ganomaly.data.inspect import agreed_bits, choose_channels, have_values
from ganomaly.devices import choose_device
from ganomaly.errors import DataError, UsageError
from ganomaly.methods import Method, Preset, find_preset
from ganomaly.networks import check_image_size
from ganomaly.training.memory import check_fits_memory

SMALL_PRESET, SMALL_COLOUR_PRESET, LARGE_PRESET = "small", "small-features", "features"
MAX_SMALL_SIDE = 64
"""Pixels of the median shorter side up to which `auto` takes a preset for small images: a patch of a larger image
still shows parts of its content."""

SMALLEST_PATCH = 32  # px
PATCH_STRIDE = 16  # px; the networks for patches halve them four times
_MOST_NAMED = 10  # products
_MOST_FOLDERS = 6  # that are named
WHITE_LEVEL_16_BIT = 65535  # until the brightest pixel is known


@dataclass(frozen=True)
class MethodPlan:
    """A preset with the user's options.

    Attributes
    ----------
    preset_name : str
        Never `AUTO`.
    preset : Preset
        Its definition.
    method_type : type of Method
        The method it belongs to.
    options : MethodOptions
        The preset's, but for those that the user set.
    """

    preset_name: str
    preset: Preset
    method_type: type[Method]
    options: MethodOptions


@dataclass(frozen=True, eq=False)
class TrainingPlan:
    """Everything that `fit` decides before it decodes an image.

    Attributes
    ----------
    dataset : ImageDataset
        The normal images.
    inspection : Inspection
        What their headers say.
    method : MethodPlan
        What is trained.
    preprocessing : Preprocessing
        The network input; of 16-bit images the white level is that of 16 bits until they are read.
    training : TrainingOptions
        How the training loop runs.
    split : TrainingSplit
        Which images train and which calibrate.
    channels : str
        The channels in words, such as "gray (19 saved as RGB)".
    asked_size : bool
        Whether the user chose the image size.
    products : mapping of str to ndarray or None
        The images of each product, `int64[n]`; None for one product.
    """

    dataset: ImageDataset
    inspection: Inspection
    method: MethodPlan
    preprocessing: Preprocessing
    training: TrainingOptions
    split: TrainingSplit
    channels: str
    asked_size: bool
    products: Mapping[str, NDArray[np.int64]] | None = None

    def products_to_train(self) -> Mapping[str, NDArray[np.int64]] | None:
        """The training images of each product."""
        if self.products is None:
            return None
        return {name: np.intersect1d(indices, self.split.training) for name, indices in self.products.items()}

    def describe(self, loader: ImageLoader, preprocessing: Preprocessing, *, are_read: bool = True) -> str:
        """The plan in words, for the user to read before the long work starts.

        Parameters
        ----------
        loader, preprocessing
            As `read_training_images` gives them; before it, `are_read` is false, and white is not known yet.
        """
        training = self.training
        unreadable = f" ({len(loader.failures)} more could not be read)" if loader.failures else ""
        bits = f"{preprocessing.bits} bit"
        if preprocessing.bits == 16:
            white = f"values above {preprocessing.white_level} count as that"
            bits += f" ({white if are_read else 'which value is white is measured when they are read'})"
        if not are_read and have_values(self.inspection):
            bits = "physical values (their range is measured when they are read)"
        if preprocessing.value_range is not None:
            ends = " to ".join(f"{value:.5g}" for value in preprocessing.value_range)
            bits = f"values from {ends} (those outside count as the ends)"
        n_train, n_calibrate = (readable(p, loader) for p in (self.split.training, self.split.calibration))
        streamed = (
            ""
            if loader.in_memory
            else " They do not fit in memory and are read in each epoch; a run that is resumed checks names, sizes "
            f"and times of all of them, but the content of {min(SAMPLE_SIZE, len(self.dataset)):,}."
        )
        return (
            f"{readable(self.inspection.openable, loader)} normal images in {self.dataset.name}{unreadable}"
            f"{self._folders_in_words()}, "
            f"{self.channels}, {bits}, "
            f"median size {self.inspection.median_width}×{self.inspection.median_height} px; "
            f"{n_train} train, {n_calibrate} calibrate the threshold.{self._groups_in_words()}{streamed}"
            f"{self._products_in_words()} "
            f"Preset {self.method.preset_name}: {self.method.preset.description}. {self._input_in_words()}; "
            f"{self._ignored_in_words()}"
            f"{length_in_words(training.epochs, training.steps)} of training."
        )

    def _folders_in_words(self) -> str:
        """The folders that are mixed, because one of them may hold what is not normal."""
        folders = Counter(record.path.rpartition("/")[0] for record in self.dataset.records)
        if self.products is not None or not 1 < len(folders) <= _MOST_FOLDERS:
            return ""
        counts = [f"{name.rpartition('/')[2]} ({n})" for name, n in sorted(folders.items())]
        return f", all of them from {', '.join(counts[:-1])} and {counts[-1]}"

    def _products_in_words(self) -> str:
        if self.products is None:
            return ""
        counts = [f"{name} ({len(indices)})" for name, indices in self.products.items()]
        more = f" and {len(counts) - _MOST_NAMED} more" if len(counts) > _MOST_NAMED else ""
        return f" {len(counts)} products: {', '.join(counts[:_MOST_NAMED])}{more}."

    def _groups_in_words(self) -> str:
        n_groups = self.split.n_groups
        if n_groups is None:
            return ""
        left_out = len(self.inspection.openable) - len(self.split.training) - len(self.split.calibration)
        return (
            f" They are of {n_groups} patients: those that calibrate do so with one image each, and their other "
            f"{left_out} images are not used."
        )

    def _ignored_in_words(self) -> str:
        mask = self.preprocessing.ignored
        return "" if mask is None else f"{mask_of(mask).mean():.1%} of each is ignored; "

    def _input_in_words(self) -> str:
        size, scale = self.preprocessing.image_size, self.preprocessing.scale
        chosen = "as asked" if self.asked_size else "chosen from the data, --image-size changes it"
        if scale is None:
            return f"Network input {size}×{size} px ({chosen})"
        used = "used at full size" if scale == 1 else f"scaled to {scale:.0%} of their size"
        return f"Images are {used} ({chosen}); training takes patches of {size}×{size} px"


def plan_training(
    dataset: ImageDataset,
    inspection: Inspection,
    options: FitOptions,
    products: Mapping[str, NDArray[np.int64]] | None = None,
) -> TrainingPlan:
    """Decide everything that follows from headers, options and seed.

    Parameters
    ----------
    dataset, inspection, options
        The images, what their headers say, and what the user chose.
    products : mapping of str to ndarray, optional
        The images of each product, `int64[n]`; each is split as if it were alone.

    Raises
    ------
    UsageError, DataError
        If the options are not allowed, do not fit the images, or need more memory than there is.
    """
    calibration = CalibrationOptions.checked(false_alarm_rate=options.false_alarm_rate)
    method = plan_method(options, inspection)
    if products is not None and method.method_type.statistics_images == 0:
        raise UsageError(
            f"the method {method.method_type.name} has no statistics of normal images, so it cannot tell products "
            "apart; choose the preset small, features or patches"
        )
    choice = choose_channels(inspection, options.channels)
    preprocessing = plan_preprocessing(
        method.preset, inspection, image_size=options.image_size, channels=choice.channels
    )
    if options.value_range is not None and not have_values(inspection):
        raise UsageError(
            "the images hold pixels, and a range is declared for physical values only; leave it out"
        )
    preprocessing = preprocessing.model_copy(
        update={"ignored": options.ignored, "value_range": options.value_range}
    )
    check_enough_images(len(inspection.openable))
    training = _training_options(options, method.preset, choice.channels)
    split = plan_split(inspection, calibration, options.seed, products)
    check_fits_memory(
        method.method_type,
        method.options,
        preprocessing,
        batch_size=min(training.batch_size, len(split.training)),
        device=choose_device(options.device),
    )
    return TrainingPlan(
        dataset=dataset,
        inspection=inspection,
        method=method,
        preprocessing=preprocessing,
        training=training,
        split=split,
        channels=choice.description,
        asked_size=options.image_size is not None,
        products=products,
    )


def plan_method(options: FitOptions, inspection: Inspection | None = None) -> MethodPlan:
    """Find preset, method and options.

    Parameters
    ----------
    options : FitOptions
        What the user asked for.
    inspection : Inspection, optional
        Needed where the preset is `AUTO`.

    Raises
    ------
    UsageError
        If an option is unknown or out of range, those of training too.
    """
    name = options.preset
    if name == AUTO:
        if inspection is None:
            raise ValueError("the preset auto follows from the images; inspect them first")
        name = suggested_preset(inspection, options.channels)
    method_type, preset = find_preset(name)
    method_options = preset_options(name, options.method_options).completed()
    if options.image_size is not None and preset.patches is None:
        check_image_size(options.image_size)
    _training_options(options, preset, channels=1)  # checks them; the channels may still change
    return MethodPlan(name, preset, method_type, method_options)


def preset_options(name: str, changed: Mapping[str, Any]) -> MethodOptions:
    """The options of a preset, some of them changed.

    Raises
    ------
    UsageError
        If the preset has no such option, or a value is out of range.
    """
    options = find_preset(name)[1].options
    fields = type(options).model_fields
    unknown = sorted(changed.keys() - fields)
    if unknown:
        raise UsageError(
            f"the preset {name} has no option {unknown[0]}; there are: {', '.join(sorted(fields))}"
        )
    return options.checked(**{**options.model_dump(), **changed})


def check_options(options: FitOptions) -> None:
    """Raise `UsageError` for options that no image could make right, before anything is read."""
    CalibrationOptions.checked(false_alarm_rate=options.false_alarm_rate)
    if options.preset != AUTO:
        plan_method(options)
        return
    presets = (SMALL_PRESET, SMALL_COLOUR_PRESET, LARGE_PRESET)
    names = {name for preset in presets for name in type(find_preset(preset)[1].options).model_fields}
    unknown = sorted(options.method_options.keys() - names)
    if unknown:
        raise UsageError(
            f"none of {', '.join(presets)}, which the preset auto chooses from, has an option {unknown[0]}; "
            f"there are: {', '.join(sorted(names))}"
        )


def suggested_preset(inspection: Inspection, channels: int | None = None) -> str:
    """The preset for images of this size and colour: small images as a whole, large ones in patches.

    Small images in colour are compared by a pretrained network too, which has learned from photographs.

    Parameters
    ----------
    inspection : Inspection
        What the images are.
    channels : int, optional
        Those of the network input, where the user asked for some.

    Raises
    ------
    UsageError, DataError
        As `choose_channels`.
    """
    if inspection.median_shorter_side > MAX_SMALL_SIDE:
        return LARGE_PRESET
    in_colour = choose_channels(inspection, channels).channels == 3
    return SMALL_COLOUR_PRESET if in_colour else SMALL_PRESET


def plan_preprocessing(
    preset: Preset, inspection: Inspection, *, image_size: int | None, channels: int
) -> Preprocessing:
    """The network input for images of these sizes.

    Parameters
    ----------
    preset : Preset
        Whether it takes squares or patches.
    inspection : Inspection
        Sizes and bits of the images.
    image_size : int, optional
        What the user asked for; the preset and the data decide if left out.
    channels : int
        Channels of the network input.

    Returns
    -------
    Preprocessing
        Of 16-bit images with the white level of 16 bits; `read_training_images` replaces it by the measured one.

    Raises
    ------
    DataError
        If some images have 8 bits per sample and some 16, or some physical values.
    """
    white_level = 255 if agreed_bits(inspection) == 8 else WHITE_LEVEL_16_BIT
    have_values(inspection)  # or pixels, but not both
    if preset.patches is None:
        size, scale = image_size or suggested_image_size(inspection), None
    else:
        target = image_size or preset.patches.image_size
        largest = max(SMALLEST_PATCH, target // PATCH_STRIDE * PATCH_STRIDE)
        size = min(preset.patches.patch_size, largest)
        scale = min(1.0, target / math.sqrt(inspection.median_height * inspection.median_width))
        scale = max(1, round(scale * SCALE_STEPS)) / SCALE_STEPS
    return Preprocessing.checked(image_size=size, scale=scale, channels=channels, white_level=white_level)


def plan_split(
    inspection: Inspection,
    options: CalibrationOptions,
    seed: int,
    products: Mapping[str, NDArray[np.int64]] | None = None,
) -> TrainingSplit:
    """Which images train and which calibrate, of each product where there are several.

    It follows from the headers and the seed alone: how many images are decoded in advance depends on free memory, and
    the split must not. Images that turn out to be damaged are left out when they are decoded. Images of one patient
    are on one side.
    """
    needed = images_needed(options.false_alarm_rate)

    def split_of(indices: NDArray[np.int64]) -> TrainingSplit:
        return split_normal_images(
            indices, share=options.share, at_least=needed, seed=seed, groups=inspection.groups
        )

    if products is None:
        return split_of(inspection.openable)
    splits = []
    for name, indices in products.items():
        try:
            splits.append(split_of(np.intersect1d(indices, inspection.openable)))
        except DataError as error:
            raise DataError(f"product {name}: {error}") from error
    return joined_split(splits, inspection.groups)


def readable(indices: NDArray[np.int64], loader: ImageLoader) -> int:
    """How many of these images could be read so far."""
    return int(np.isin(indices, list(loader.failures), invert=True).sum())


def _training_options(options: FitOptions, preset: Preset, channels: int) -> TrainingOptions:
    return preset.training_for(
        channels,
        options.epochs,
        seed=options.seed,
        device=options.device,
        precision=options.precision,
    )
