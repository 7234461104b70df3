"""TensorBoard: one folder of event files for each run."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import UsageError, package_needed


class TensorBoardLogger:
    """Writes event files, and the model beside them, into a folder of the run.

    Parameters
    ----------
    folder : Path
        What `tensorboard --logdir` is given.
    run_name : str
        Of the folder in it.

    Raises
    ------
    UsageError
        If TensorBoard is not installed, or nothing can be written into the folder.
    """

    def __init__(self, folder: Path, run_name: str) -> None:
        with package_needed("logging to TensorBoard", "tensorboard"):
            import tensorboard  # noqa: F401 - the writer of PyTorch needs it, and is slow to import
        existing = next(parent for parent in (folder, *folder.absolute().parents) if parent.exists())
        if not existing.is_dir() or not os.access(existing, os.W_OK):
            raise UsageError(f"TensorBoard's folder {folder} cannot be written; name one that can")
        self._folder = folder / run_name

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Write the configuration as a table."""
        from torch.utils.tensorboard.writer import SummaryWriter

        self._last_step = 0
        self._writer: Any = SummaryWriter(str(self._folder))
        rows = [f"| {name} | {json.dumps(value)} |" for name, value in configuration.items()]
        self._writer.add_text("configuration", "\n".join(["| option | value |", "| --- | --- |", *rows]))
        self._writer.flush()

    def log(self, step: int, values: Mapping[str, float], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Write scalars and images."""
        self._last_step = step
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)
        for name, image in images.items():
            self._writer.add_image(name, image, step, dataformats="HWC")

    def finish(self, figures: Mapping[str, float], model: Path | None) -> None:
        """Write the figures, and copy the model."""
        for name, value in figures.items():
            self._writer.add_scalar(f"final/{name}", value, self._last_step)
        self._writer.close()
        if model is not None:
            shutil.copyfile(model, self._folder / "model.safetensors")
