"""`GANomalyDetector`, the Python interface, by scikit-learn's conventions."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from ganomaly.calibration import ProductCalibration
from ganomaly.config import (
    AUTO,
    DEVICE,
    FALSE_ALARM_RATE,
    PRECISION,
    SEED,
    Device,
    FitOptions,
    Precision,
)
from ganomaly.data import ImageDataset, open_images, open_training_images, with_ignored_regions
from ganomaly.data.ignored_region import ignored_region, mask_from_text, read_ignored_region
from ganomaly.errors import ImageError, UsageError
from ganomaly.estimator import BaseEstimator, CopiesShareTheModel, NotFittedError, OutlierMixin
from ganomaly.prediction import Prediction, Predictor, load_predictor

if TYPE_CHECKING:
    from ganomaly.loggers import TrainingLogger
    from ganomaly.outputs.notebook import Predictions


class GANomalyDetector(CopiesShareTheModel, OutlierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn is not typed
    """Find anomalous images after learning from normal ones alone.

    Parameters
    ----------
    preset : str, default='auto'
        A named configuration; 'auto' chooses one by size and colour of the images, 'features' is for large images
        with small defects, 'paper' is GANomaly as published.
    epochs : int, optional
        Passes over the training images; None takes the preset's number.
    image_size : int, optional
        Side of the network input in pixels; None chooses from the data.
    channels : int, optional
        Channels of the network input; None takes those of the images.
    seed : int, default=0
        Fixes weights, order of images and calibration split. Same seed, machine and software: same model.
    device : {'auto', 'cpu', 'cuda'}, default='auto'
        Where to compute.
    precision : {'auto', 'fp32', 'bf16'}, default='auto'
        How training computes; scoring is always fp32.
    false_alarm_rate : float, default=0.01
        Share of new normal images that may be called anomalous; the threshold follows.
    ignore : path, ndarray, or sequence of ndarray or None, optional
        Mask of the region of all images that is ignored: an image that is not 0 there, or `bool[h, w]`. Or masks of
        the training images, one for each: a folder with masks of the same names, or `bool[N, h, w]`.
    value_range : (float, float), optional
        Of images with physical values (DICOM, floating point), those that become black and white; None measures them
        on the training images.
    method_options : mapping, optional
        Options of the method that differ from the preset's, such as ``{"nz": 64, "score": "l1"}``.

    Attributes
    ----------
    model_ : Predictor
        The trained method with its preprocessing, calibration and provenance.
    offset_ : float
        −φ: `decision_function` is `score_samples` minus this.

    Notes
    -----
    To predict in several processes, start them with ``multiprocessing.get_context("spawn")`` and load the model in
    each. A forked process lacks the threads in which models compute; it raises `UsageError` instead of waiting for
    them.

    References
    ----------
    Akcay, Atapour-Abarghouei, Breckon. *GANomaly: Semi-Supervised Anomaly Detection via Adversarial
    Training.* ACCV 2018. arXiv:1805.06725.

    Examples
    --------
    >>> import numpy as np
    >>> from ganomaly import GANomalyDetector
    >>> images = np.random.default_rng(0).integers(0, 255, size=(40, 32, 32), dtype=np.uint8)
    >>> detector = GANomalyDetector("paper", epochs=1, false_alarm_rate=0.2, method_options={"ngf": 4, "ndf": 4})
    >>> detector.fit(images).predict(images).shape
    (40,)
    """

    def __init__(
        self,
        preset: str = AUTO,
        *,
        epochs: int | None = None,
        image_size: int | None = None,
        channels: int | None = None,
        seed: int = SEED,
        device: Device = DEVICE,
        precision: Precision = PRECISION,
        false_alarm_rate: float = FALSE_ALARM_RATE,
        ignore: Any = None,
        value_range: tuple[float, float] | None = None,
        method_options: Mapping[str, Any] | None = None,
    ) -> None:
        self.preset = preset
        self.epochs = epochs
        self.image_size = image_size
        self.channels = channels
        self.seed = seed
        self.device = device
        self.precision = precision
        self.false_alarm_rate = false_alarm_rate
        self.ignore = ignore
        self.value_range = value_range
        self.method_options = method_options

    def fit(
        self,
        images: Any,
        y: object = None,
        *,
        products: Any = None,
        loggers: "Sequence[str | TrainingLogger]" = (),
    ) -> Self:
        """Learn from normal images.

        Parameters
        ----------
        images : path, list of paths, or ndarray
            A folder, a dataset folder in MVTec AD layout, parquet, or `uint8`/`uint16` `[N, H, W(, C)]`.
        y : ignored
            For scikit-learn's pipelines.
        products : 'folders' or sequence of str, optional
            Which product each image shows, for one model of several: a label for each image, or 'folders' for the
            folders that they are in, as `train/good/<product>`. Networks are shared; statistics and threshold are
            those of each product. A score is then A(x) / φ of the product that fits the image best.
        loggers : sequence of str or TrainingLogger, optional
            Who is told how training goes: ``"tensorboard:DIR"``, ``"mlflow:URI"``, ``"wandb:PROJECT"``, or objects
            with the three methods of `ganomaly.loggers.TrainingLogger`.

        Returns
        -------
        self

        Raises
        ------
        GANomalyError
            In one sentence, if the images or the options cannot be used, or training fails.
        """
        from ganomaly.loggers import open_loggers, run_name
        from ganomaly.loggers.in_python import fit_and_log

        options = FitOptions.checked(
            preset=self.preset,
            epochs=self.epochs,
            image_size=self.image_size,
            channels=self.channels,
            seed=self.seed,
            device=self.device,
            precision=self.precision,
            false_alarm_rate=self.false_alarm_rate,
            ignored=self._ignored(),
            value_range=self.value_range,
            method_options=dict(self.method_options or {}),
        )
        each = self.ignore if self._ignores_each_image() else None
        opened = open_loggers(loggers, run_name(Path("detector")))
        result = fit_and_log(images, options, opened, ignore=each, products=products)
        for path, why in result.failures.items():
            warnings.warn(f"left out of training: {path}: {why}", stacklevel=2)
        self.model_: Predictor = result.model
        return self

    def update(self, images: Any, *, ignore: Any = None) -> Self:
        """Learn from more normal images without training: they go into memory banks and calibration.

        What `ganomaly update` does: scores only fall, and the false-alarm rate keeps its bound.

        Parameters
        ----------
        images : path, list of paths, or ndarray
            Normal images that the model has not seen, as for `fit`.
        ignore : path, ndarray, or sequence of ndarray or None, optional
            As for `anomaly_score`.

        Returns
        -------
        self

        Raises
        ------
        UsageError
            If the model has seen these images, is of several products, or is an exported graph.
        DataError
            If none of them can be read.
        """
        from ganomaly.prediction.model import Model
        from ganomaly.training.update import update_model

        model = self._model
        if not isinstance(model, Model):
            raise UsageError("an exported graph is not updated; update the model, and export it again")
        dataset = open_training_images(images)
        dataset = dataset if ignore is None else with_ignored_regions(dataset, ignore)
        result = update_model(model, dataset, device=self.device)
        for path, why in result.failures.items():
            warnings.warn(f"left out of the update: {path}: {why}", stacklevel=2)
        self.model_ = result.model
        return self

    def _ignores_each_image(self) -> bool:
        """Whether `ignore` holds a mask for each training image, which the model does not keep."""
        if isinstance(self.ignore, str | Path):
            return Path(self.ignore).is_dir()
        return self.ignore is not None and np.ndim(self.ignore) != 2

    def _ignored(self) -> str | None:
        if self.ignore is None or self._ignores_each_image():
            return None
        if isinstance(self.ignore, np.ndarray):
            return ignored_region(self.ignore != 0)
        return read_ignored_region(self.ignore)

    @property
    def offset_(self) -> float:
        """−φ, on the scale of `score_samples`."""
        return -self._model.calibration.threshold

    def anomaly_score(self, images: Any, *, ignore: Any = None) -> NDArray[np.float64]:
        """A(x), `float64[N]`, ≥ 0, larger is more anomalous; NaN, with a warning, for an unreadable image.

        Parameters
        ----------
        images : path, list of paths, or ndarray
            As for `fit`, of any size.
        ignore : path, ndarray, or sequence of ndarray or None, optional
            What counts neither for score nor for map, where masks are not 0: one mask for all these images, an image
            file or `bool[h, w]`; or one for each, a folder with masks of the same names, or `bool[N, h, w]`.

        Raises
        ------
        UsageError
            If masks cannot be read or do not fit the images, or the model is a graph that cannot leave out positions.
        """
        return self._predict(images, "score", ignore)

    def score_samples(self, images: Any, *, ignore: Any = None) -> NDArray[np.float64]:
        """−A(x), `float64[N]`: lower is more abnormal, as everywhere in scikit-learn; `ignore` as `anomaly_score`."""
        return -self.anomaly_score(images, ignore=ignore)

    def decision_function(self, images: Any, *, ignore: Any = None) -> NDArray[np.float64]:
        """φ − A(x), `float64[N]`: below 0 is anomalous; `ignore` as for `anomaly_score`."""
        return self.score_samples(images, ignore=ignore) - self.offset_

    def predict(self, images: Any, *, ignore: Any = None) -> NDArray[np.int64]:
        """+1 for normal, −1 for anomalous and for what could not be read, `int64[N]`; `ignore` as `anomaly_score`."""
        return np.where(self._predict(images, "is_anomaly", ignore) == 0, 1, -1)

    def predictions(self, images: Any, *, ignore: Any = None) -> "Predictions":
        """All that the model says of each image, a sequence of `Prediction` with details.

        A notebook shows the most anomalous as strips of images. Parameters are those of `anomaly_score`; what could
        not be read has its `error`.
        """
        from ganomaly.outputs.notebook import Predictions

        predictions = self._model.predict(_opened(images, ignore), device=self.device, details=True)
        return Predictions(predictions, self._model.map_calibration)

    def p_value(self, images: Any, *, ignore: Any = None) -> NDArray[np.float64]:
        """Conformal p-value, `float64[N]` in (0, 1]; NaN for an unreadable image; `ignore` as for `anomaly_score`."""
        return self._predict(images, "p_value", ignore)

    def product(self, images: Any, *, ignore: Any = None) -> NDArray[np.str_]:
        """The product that each image belongs to, `str[N]`; empty for an unreadable image.

        Raises
        ------
        UsageError
            If the model is of one product.
        """
        if not isinstance(self._model.calibration, ProductCalibration):
            raise UsageError("this model is of one product; fit it with products to tell them apart")
        predictions = self._model.predict(_opened(images, ignore), device=self.device)
        return np.array([prediction.product or "" for prediction in predictions])

    def anomaly_map(self, image: Any, *, ignore: Any = None) -> NDArray[np.float32]:
        """The anomaly map of one image, `float32[H, W]` at the image's own size.

        Parameters
        ----------
        image : path or ndarray
            One image, `[H, W]` or `[H, W, C]`.
        ignore : path or ndarray, optional
            Mask of what is ignored, where the map is 0; as for `anomaly_score`.

        Raises
        ------
        ImageError
            If it cannot be read.
        UsageError
            If these are several images, or the method has no anomaly map.
        """
        is_path = isinstance(image, str | Path)
        if isinstance(image, list | tuple) or (not is_path and np.ndim(image) > 3):  # height, width, channels
            raise UsageError("anomaly_map takes one image, [H, W] or [H, W, C]; call it once for each")
        dataset = _opened([image] if is_path else np.asarray(image)[np.newaxis], ignore)
        if len(dataset) > 1 or (is_path and Path(image).is_dir()):
            raise UsageError(
                f"anomaly_map takes one image, and {image} holds several; `predictions` gives the map of each"
            )
        anomaly_map = next(self._details_of(dataset)).map_at_image_size()
        if anomaly_map is None:
            raise UsageError(f"the method {self._model.method_name} has no anomaly map")
        return anomaly_map

    def reconstruct(self, images: Any) -> NDArray[np.uint8]:
        """Reconstructions x̂ as images, `uint8[N, h, w, C]` at the size of the network input.

        Raises
        ------
        ImageError
            If an image cannot be read.
        UsageError
            If the method does not reconstruct, or its inputs for these images have different sizes.
        """
        reconstructions = []
        for prediction in self._predict_details(images):
            if prediction.reconstruction is None:
                raise UsageError(f"the method {self._model.method_name} does not reconstruct")
            reconstructions.append(prediction.reconstruction)
        if len({x_hat.shape for x_hat in reconstructions}) > 1:
            raise UsageError(
                "images of different sizes have reconstructions of different sizes; give one at a time"
            )
        return np.stack(reconstructions)

    def save(self, path: str | Path) -> None:
        """Write the trained model to one `.safetensors` file.

        Raises
        ------
        OutputError
            If it cannot be written.
        UsageError
            If the model was loaded from an exported graph.
        """
        from ganomaly.prediction.model import Model
        from ganomaly.prediction.model_file import save_model

        model = self._model
        if not isinstance(model, Model):
            raise UsageError(
                "this model was loaded from an exported graph, which is saved already; copy its file"
            )
        save_model(model, path)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a model that `save`, `ganomaly fit` or `ganomaly export` wrote; the last needs no PyTorch.

        Raises
        ------
        UsageError
            If there is no such file.
        ModelFileError
            If it is truncated, foreign, newer than this package, or was changed.
        """
        model = load_predictor(path)
        detector = cls(
            preset=model.preset,
            epochs=model.provenance.get("epochs"),
            # with patches, the preprocessing holds the size of a patch
            image_size=(
                model.preprocessing.image_size
                if model.preprocessing.scale is None
                else model.provenance.get("image_size_asked")
            ),
            channels=model.preprocessing.channels,
            seed=model.provenance.get("seed", SEED),
            false_alarm_rate=model.calibration.false_alarm_rate,
            ignore=None
            if model.preprocessing.ignored is None
            else mask_from_text(model.preprocessing.ignored),
            value_range=None
            if (asked := model.provenance.get("value_range_asked")) is None
            else (asked[0], asked[1]),
            method_options=dict(model.method_options),
        )
        detector.model_ = model
        return detector

    @classmethod
    def from_pretrained(cls, repository: str | Path, *, revision: str | None = None) -> Self:
        """Load the model of a repository of the Hugging Face hub, or of a folder.

        Parameters
        ----------
        repository : str or Path
            `ORG/NAME`, which is fetched unless it is in the local cache, or a folder with `model.safetensors`.
        revision : str, optional
            A branch, tag or commit of the repository.

        Raises
        ------
        UsageError
            If it cannot be had.
        ModelFileError
            As `load`.
        """
        from ganomaly.hub import pretrained_file

        return cls.load(pretrained_file(repository, revision=revision))

    def __sklearn_tags__(self) -> Any:
        """Tell scikit-learn that the input is images, not a table."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.input_tags.string = True  # paths
        return tags

    def _html_repr(self) -> str:
        """What notebooks show: scikit-learn's diagram; below it, once fitted, threshold and calibration scores."""
        from sklearn.utils import estimator_html_repr

        from ganomaly.outputs.notebook import model_html

        diagram = str(estimator_html_repr(self))
        return diagram + (model_html(self.model_) if hasattr(self, "model_") else "")

    @property
    def _model(self) -> Predictor:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                "this GANomalyDetector has no model yet; call fit with normal images, or load"
            )
        model: Predictor = self.model_
        return model

    def _predict(
        self, images: Any, attribute: Literal["score", "p_value", "is_anomaly"], ignore: Any
    ) -> NDArray[np.float64]:
        """One attribute of each prediction, `float64[N]`; NaN, with a warning, for an unreadable image."""
        values: list[float] = []
        for prediction in self._model.predict(_opened(images, ignore), device=self.device):
            if prediction.error is not None:
                # for the caller of the public method
                warnings.warn(f"no score for {prediction.path}: {prediction.error}", stacklevel=3)
            value = getattr(prediction, attribute)
            values.append(np.nan if value is None else float(value))
        return np.array(values, dtype=np.float64)

    def _predict_details(self, images: Any, ignore: Any = None) -> Iterator[Prediction]:
        """Predictions with details, one by one; `ImageError` for the first unreadable image."""
        yield from self._details_of(_opened(images, ignore))

    def _details_of(self, dataset: ImageDataset) -> Iterator[Prediction]:
        for prediction in self._model.predict(dataset, device=self.device, details=True):
            if prediction.error is not None:
                raise ImageError(prediction.error)
            yield prediction


def _opened(images: Any, ignore: Any) -> ImageDataset:
    dataset = open_images(images)
    return dataset if ignore is None else with_ignored_regions(dataset, ignore)
