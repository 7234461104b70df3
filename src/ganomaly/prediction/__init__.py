"""What a model says of images: the one prediction loop, and what predicts.

`load_predictor` makes a `Predictor` of a model file or of an exported graph; its `predict` gives a `Prediction` of
each image.
"""

from ganomaly.prediction.load import describe_model, load_predictor
from ganomaly.prediction.prediction import Prediction, resize_map
from ganomaly.prediction.predictor import Predictor

__all__ = ["Prediction", "Predictor", "describe_model", "load_predictor", "resize_map"]
