"""A trained method with its preprocessing and its calibration."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ganomaly.calibration import Calibration, MapCalibration
from ganomaly.config import BATCH_SIZE, DEVICE, Device, Preprocessing
from ganomaly.data import ImageDataset
from ganomaly.methods import Method
from ganomaly.methods.products import ProductMethods
from ganomaly.prediction.prediction import Prediction
from ganomaly.prediction.pytorch import predict_dataset


@dataclass(frozen=True, eq=False)
class Model:
    """A trained method with everything that a prediction needs; a `Predictor`.

    Attributes
    ----------
    method : Method or ProductMethods
        The trained networks and their score, of one product or several.
    preset : str
        Name of the preset it was trained with.
    preprocessing : Preprocessing
        From a decoded image to the network input.
    calibration : Calibration
        From a score to a p-value and a verdict.
    provenance : mapping of str to JSON value
        Versions, seed, data fingerprint, time: where the model comes from.
    map_calibration : MapCalibration or None
        The scale of anomaly maps; None where the method has none.
    """

    method: Method | ProductMethods
    preset: str
    preprocessing: Preprocessing
    calibration: Calibration
    provenance: Mapping[str, Any]
    map_calibration: MapCalibration | None = None

    @property
    def method_name(self) -> str:
        """The method, by its name on the command line."""
        return self.method.name

    @property
    def method_options(self) -> Mapping[str, Any]:
        """The method's options."""
        return self.method.options.model_dump()

    @property
    def parameters(self) -> int:
        """Number of trained weights."""
        return sum(parameter.numel() for parameter in self.method.parameters())

    def predict(
        self,
        dataset: ImageDataset,
        *,
        batch_size: int = BATCH_SIZE,
        device: Device = DEVICE,
        details: bool = False,
        fixed_batches: bool = False,
    ) -> Iterator[Prediction]:
        """Predict all images of a dataset, in order; parameters are those of `Predictor.predict`."""
        return predict_dataset(
            self.method,
            self.preprocessing,
            dataset,
            self.calibration,
            batch_size=batch_size,
            device=device,
            details=details,
            fixed_batches=fixed_batches,
        )
