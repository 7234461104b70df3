"""The state of a training run on disk: weights, optimizers and how far it got, in one safetensors file."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load as unpacked
from safetensors.torch import save as packed
from torch import Tensor
from torch.optim import Optimizer

from ganomaly.config import Precision
from ganomaly.errors import TrainingError
from ganomaly.locks import local_name
from ganomaly.methods import Method
from ganomaly.remote import Location, RemoteFile
from ganomaly.tensor_files import check_readable, write_safetensors
from ganomaly.training.ranks import Ranks

FORMAT = "ganomaly-checkpoint-2"


class OtherRunError(TrainingError):
    """The checkpoint is of a run with other images or options."""


@dataclass
class RunState:
    """How far a run is."""

    step: int = 0
    seconds: float = 0.0
    recoveries_in_a_row: int = 0
    messages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Checkpoint:
    """The state of one run in a file.

    Attributes
    ----------
    path : Path
        The file.
    identity : mapping of str to str
        What tells the run from others; a checkpoint with another identity is refused.
    """

    path: Path
    identity: Mapping[str, str]

    def save(self, method: Method, optimizers: Mapping[str, Optimizer], state: RunState) -> None:
        """Write the state of the run, whole or not at all."""
        tensors = _tensors_of(method, optimizers)
        metadata = {
            "format": FORMAT,
            "identity": json.dumps(dict(self.identity)),
            "state": json.dumps(asdict(state)),
        }
        write_safetensors(self.path, tensors, metadata)

    def load(self, method: Method, optimizers: Mapping[str, Optimizer]) -> RunState:
        """Bring method and optimizers back to the state that was saved.

        Raises
        ------
        TrainingError
            If the file is not a checkpoint, or one of another run; it says what differs.
        """
        path = self.path
        advice = "start anew with --no-resume, which replaces it"
        try:
            check_readable(path)
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != FORMAT:
                    raise TrainingError(f"{path} is not a checkpoint of this version of ganomaly; {advice}")
                _check_identity(path, json.loads(metadata["identity"]), self.identity)
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
                state = RunState(**json.loads(metadata["state"]))
        except (SafetensorError, KeyError, ValueError, TypeError, OSError) as error:
            raise TrainingError(f"the checkpoint {path} is damaged; {advice}") from error
        try:
            _restore(tensors, method, optimizers)
        except (RuntimeError, KeyError, ValueError) as error:
            raise TrainingError(f"the checkpoint {path} does not fit the method; {advice}") from error
        return state


def share_state(
    ranks: Ranks, method: Method, optimizers: Mapping[str, Optimizer], state: RunState
) -> RunState:
    """Bring all processes of a training to the state of the first one, and return how far it is."""
    if ranks.number == 1:
        return state
    shared = RunState(**json.loads(ranks.from_first(json.dumps(asdict(state)).encode())))
    content = b""
    if ranks.is_first:
        tensors = _tensors_of(method, optimizers)
        content = packed({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    content = ranks.from_first(content)
    if ranks.is_first:
        return state
    _restore(unpacked(content), method, optimizers)
    return shared


def checkpoint_of(model: Location) -> Path:
    """Where the state of a training is: beside its model, or in the current folder if that is in a store.

    There its name holds a digest of the address, so that models of the same name do not share it.
    """
    if isinstance(model, RemoteFile):
        return Path(f"{local_name(model)}.checkpoint")
    return model.with_name(f"{model.name}.checkpoint")


def recorded_data(path: Path | None) -> str | None:
    """The fingerprint of the images in a checkpoint; None if there is none that can be read."""
    if path is None or not path.is_file():
        return None
    try:
        check_readable(path)
        with safe_open(path, framework="pt") as file:
            data = json.loads((file.metadata() or {})["identity"])["data"]
    except (SafetensorError, KeyError, ValueError, TypeError, OSError):
        return None  # loading the checkpoint will say why
    return str(data)


def _check_identity(path: Path, found: Mapping[str, str], expected: Mapping[str, str]) -> None:
    different = [
        f"{name}{_options_that_differ(found.get(name, ''), expected[name])}"
        for name in sorted(expected)
        if found.get(name) != expected[name]
    ]
    if different:
        raise OtherRunError(
            f"the checkpoint {path} belongs to a run with other {' and '.join(different)}; repeat that run's "
            "command to go on with it, or start anew with --no-resume, which replaces it"
        )


def _options_that_differ(found: str, expected: str) -> str:
    """Which options of two JSON objects differ, in parentheses; nothing where these are none."""
    try:
        options, asked = json.loads(found), json.loads(expected)
    except ValueError:
        return ""
    if not isinstance(options, dict) or not isinstance(asked, dict):
        return ""
    names = sorted(name for name in options.keys() | asked.keys() if options.get(name) != asked.get(name))
    return f" ({', '.join(names)})"


def _tensors_of(method: Method, optimizers: Mapping[str, Optimizer]) -> dict[str, Tensor]:
    tensors = {f"method/{name}": tensor for name, tensor in method.state_dict().items()}
    for optimizer_name, optimizer in optimizers.items():
        for parameter, values in optimizer.state_dict()["state"].items():
            for name, value in values.items():
                tensors[f"optimizer/{optimizer_name}/{parameter}/{name}"] = value
    return tensors


def _restore(tensors: Mapping[str, Tensor], method: Method, optimizers: Mapping[str, Optimizer]) -> None:
    weights = {
        name.removeprefix("method/"): tensor for name, tensor in tensors.items() if name.startswith("method/")
    }
    method.load_state_dict(weights)
    for optimizer_name, optimizer in optimizers.items():
        values: dict[int, dict[str, Tensor]] = {}
        prefix = f"optimizer/{optimizer_name}/"
        for name, tensor in tensors.items():
            if name.startswith(prefix):
                parameter, value_name = name.removeprefix(prefix).split("/")
                values.setdefault(int(parameter), {})[value_name] = tensor
        saved = optimizer.state_dict()
        optimizer.load_state_dict({"state": values, "param_groups": saved["param_groups"]})
    _channels_last_moments(optimizers)


def _channels_last_moments(optimizers: Mapping[str, Optimizer]) -> None:
    """Give Adam's moments the memory format of their weights, as in an uninterrupted run."""
    for optimizer in optimizers.values():
        for parameter, values in optimizer.state.items():
            for name, value in values.items():
                if isinstance(value, Tensor) and value.shape == parameter.shape and value.dim() == 4:
                    laid_out = torch.empty_like(parameter, memory_format=torch.preserve_format)
                    values[name] = laid_out.copy_(value)


def recorded_precision(path: Path) -> Precision | None:
    """The precision of the run that a checkpoint is of; None where there is none, or none that can be read."""
    try:
        with safe_open(path, framework="pt") as file:
            identity = json.loads((file.metadata() or {})["identity"])
        precision = json.loads(identity["training"])["precision"]
    except (SafetensorError, KeyError, ValueError, TypeError, OSError):
        return None  # `load` says what is wrong
    return precision if precision in ("fp32", "bf16") else None
