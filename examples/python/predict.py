"""Score images with an exported model. Needs NumPy, Pillow and ONNX Runtime; no ganomaly, no PyTorch.

python predict.py MODEL.onnx                             print the metadata of the model
python predict.py MODEL.onnx [--threshold T] IMAGE...    print path, score, p-value and verdict, separated by tabs
"""

import argparse
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def read_image(path, channels, dtype):
    """Read pixels as the model takes them: `[H, W, channels]`."""
    with Image.open(path) as file:
        image = ImageOps.exif_transpose(file)
    has_16_bits = image.mode.startswith("I;16")
    if has_16_bits != (dtype == np.uint16) or image.mode in ("I", "F"):
        raise ValueError(f"its pixels are of kind {image.mode}, but the model takes {np.dtype(dtype)}")
    if channels not in (1, 3) or (has_16_bits and channels == 3):
        raise ValueError(f"this program does not read {channels} channels of {np.dtype(dtype)}")
    if not has_16_bits:
        image = image.convert("L" if channels == 1 else "RGB")  # the channels that the model takes
    pixels = np.asarray(image).astype(dtype)
    return pixels.reshape(*pixels.shape[:2], channels)


def main():
    """Score images one by one; report a broken one and go on."""
    parser = argparse.ArgumentParser(description="Score images with an exported model.")
    parser.add_argument("model")
    parser.add_argument("images", nargs="*")
    parser.add_argument("--threshold", type=float, help="used instead of the calibrated one")
    arguments = parser.parse_intermixed_args()

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors; not the harmless warning that the threshold can be overridden
    session = onnxruntime.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    if not arguments.images:
        for key, value in session.get_modelmeta().custom_metadata_map.items():
            print(f"{key}: {value}")
        return 0

    image_input = session.get_inputs()[0]
    channels = image_input.shape[3]
    dtype = np.uint16 if image_input.type == "tensor(uint16)" else np.uint8
    inputs = {}
    if arguments.threshold is not None:
        inputs["threshold"] = np.array([arguments.threshold], dtype=np.float32)
    status = 0
    for path in arguments.images:
        try:
            inputs["image"] = read_image(path, channels, dtype)[np.newaxis]  # [1, H, W, C]
        except (OSError, ValueError) as error:
            print(f"{path}: {error}", file=sys.stderr)
            status = 3
            continue
        score, p_value, is_anomaly = session.run(["score", "p_value", "is_anomaly"], inputs)
        verdict = "anomalous" if is_anomaly[0] else "normal"
        print(f"{path}\t{score[0]:.6g}\t{p_value[0]:.6g}\t{verdict}")
    return status


if __name__ == "__main__":
    sys.exit(main())
