"""A Python environment for anomalib, apart from the project's own.

anomalib needs torchvision, and the torchvision of the package index is built for another PyTorch than the
processor's: it is installed without its dependencies, and `anomalib_systems.py` declares its operators.
"""

import subprocess
import sys
from pathlib import Path

TORCH = "torch==2.13.0"
WITHOUT_TORCH = (
    "numpy",
    "pillow",
    "docstring-parser",
    "einops",
    "imagecodecs",
    "jsonargparse[signatures]>=4.27.7,<4.47.0",
    "lightning-utilities",
    "matplotlib",
    "omegaconf",
    "opencv-python-headless",
    "pandas",
    "platformdirs>=4.9.4",
    "rich",
    "rich-argparse",
    "scikit-image",
    "scikit-learn",
    "tifffile",
    "safetensors",
    "huggingface-hub",
    "pyyaml",
)
WITH_TORCH = (
    "lightning>=2.6,!=2.6.2,!=2.6.3",  # those two were compromised uploads
    "torchmetrics>=1.8.2",
    "kornia",
    "freia",
)
ALONE = ("torchvision==0.29.1", "timm==1.0.31", "anomalib==2.7.0")
EXPORT = ("onnx", "openvino==2026.4.1")


def peer_interpreter(folder: Path) -> Path:
    """The interpreter of the environment in `folder`, which is made where it is missing; that takes some minutes."""
    interpreter = folder / "bin" / "python"
    complete = folder / ".complete"
    if complete.exists():
        return interpreter
    print(f"installing anomalib in {folder}", flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    # PyTorch first and in each call again, so that nothing replaces it
    for packages in ((TORCH,), (TORCH, *WITHOUT_TORCH), (TORCH, *WITH_TORCH), (TORCH, *EXPORT)):
        subprocess.run([*pip, *packages], check=True)
    subprocess.run([*pip, "--no-deps", *ALONE], check=True)
    complete.touch()
    return interpreter
