"""Weights & Biases: a run of a project."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ganomaly.errors import package_needed

LOGIN_SECONDS = 5
"""How long a question for the key may wait, where none is configured; then nothing is logged."""


class WandbLogger:
    """Logs to W&B; `WANDB_MODE=offline` writes to the disk alone.

    Parameters
    ----------
    project : str
        Name of the project, or ENTITY/PROJECT.
    run_name : str
        Of the run.

    Raises
    ------
    UsageError
        If W&B is not installed.
    """

    def __init__(self, project: str, run_name: str) -> None:
        with package_needed("logging to W&B", "wandb"):
            import wandb  # noqa: F401 - missing packages are said before training
        self._entity, _, self._project = project.rpartition("/")
        self._run_name = run_name

    def start(self, configuration: Mapping[str, Any]) -> None:
        """Create the run; of the program and its machine nothing is sent that was not asked for."""
        import wandb

        settings = wandb.Settings(
            silent=True,
            console="off",
            disable_git=True,
            save_code=False,
            x_disable_machine_info=True,
            login_timeout=LOGIN_SECONDS,
        )
        self._run: Any = wandb.init(
            project=self._project,
            entity=self._entity or None,
            name=self._run_name,
            config=dict(configuration),
            settings=settings,
            reinit="create_new",
        )

    def log(self, step: int, values: Mapping[str, float], images: Mapping[str, NDArray[np.uint8]]) -> None:
        """Log values and images."""
        import wandb

        shown = {name: wandb.Image(image) for name, image in images.items()}
        self._run.log({**values, **shown}, step=step)

    def finish(self, figures: Mapping[str, float], model: Path | None) -> None:
        """Log the figures and the model, and end the run."""
        import wandb

        self._run.summary.update({f"final/{name}": value for name, value in figures.items()})
        if model is not None:
            artifact = wandb.Artifact(f"model-{self._run.id}", type="model")
            artifact.add_file(str(model), name="model.safetensors")
            self._run.log_artifact(artifact)
        self._run.finish(exit_code=1 if model is None else 0)
