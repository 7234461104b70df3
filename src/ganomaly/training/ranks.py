"""Several processes that train one method together, each on some rows of each batch.

Every process holds the whole batch, draws the same random numbers and computes the same losses. What is divided is
the work of the networks: `Ranks.by_rows` runs them on some of the rows and gathers all outputs, and in the backward
pass sums the gradients of the outputs over the processes. Batch norm takes its statistics from all rows
(`shared_batch_norm`), and gradients are averaged before each step. So the gradients are those of one process with
the whole batch, for any loss, for batches that the processes do not divide evenly, and for rows that a method uses
twice or not at all.

Nothing is pickled: what goes from process to process is tensors, and JSON.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta
from functools import partial
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.optim import Optimizer

from ganomaly.config import Precision
from ganomaly.devices import make_fabric
from ganomaly.errors import TrainingError, UsageError
from ganomaly.training.processes import Place

if TYPE_CHECKING:
    from lightning_fabric import Fabric

_CPU = torch.device("cpu")
_TIMEOUT = timedelta(
    minutes=30
)  # as PyTorch's own; the first process may have to read a large file meanwhile
_TOUCH_SECONDS = 10.0  # between words of a process that works while others wait


class RankLostError(TrainingError):
    """Another process of the training has ended, or cannot be reached."""


class Ranks:
    """This process among those that train together.

    Attributes
    ----------
    rank, number : int
        Which process this is, and how many there are.
    local_rank, local_number : int
        The same on this machine.
    is_dividing : bool
        Whether `by_rows` runs networks now.
    """

    def __init__(
        self,
        rank: int = 0,
        number: int = 1,
        local_rank: int = 0,
        local_number: int = 1,
        fabric_in: "Callable[[Precision], Fabric] | None" = None,
        device: torch.device = _CPU,
    ):
        self.rank, self.number = rank, number
        self.local_rank, self.local_number = local_rank, local_number
        self._fabric_in, self._device = fabric_in, device
        self.is_dividing = False

    def make_fabric(self, device: torch.device, precision: Precision) -> "Fabric":
        """Make the Fabric that this process trains on; `precision` is already resolved."""
        return make_fabric(device, precision) if self._fabric_in is None else self._fabric_in(precision)

    @property
    def is_first(self) -> bool:
        """Whether this process writes, calibrates and speaks for all."""
        return self.rank == 0

    def rows(self, n: int, rank: int | None = None) -> slice:
        """Which of n rows are a process's: as many for each, one more for the first n mod number."""
        rank = self.rank if rank is None else rank
        each, more = divmod(n, self.number)
        start = rank * each + min(rank, more)
        return slice(start, start + each + (rank < more))

    def by_rows(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """Run a function on this process's rows, and gather what all have; see `Precision.by_rows`."""
        n = len(inputs[0])
        if self.number == 1 or n < self.number:  # then each runs all: not every layer can be without rows
            return function(*inputs)
        self.is_dividing = True
        try:
            outputs = function(*(x[self.rows(n)] for x in inputs))
        finally:
            self.is_dividing = False
        apply: Any = _Gathered.apply  # PyTorch does not type it
        gathered: tuple[Tensor, ...] = apply(self, n, *outputs)
        return gathered

    def average_gradients(self, optimizer: Optimizer) -> None:
        """Average the gradients of an optimizer's weights over the processes."""
        gradients = [
            parameter.grad
            for group in optimizer.param_groups
            for parameter in group["params"]
            if parameter.grad is not None
        ]
        if self.number == 1 or not gradients:
            return
        flat = torch.cat([gradient.flatten().float() for gradient in gradients])
        self.sum(flat).div_(self.number)
        for gradient, average in zip(
            gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
        ):
            gradient.copy_(average.view(gradient.shape))

    def sum(self, values: Tensor) -> Tensor:
        """Replace values, `float32[n]`, by their sums over the processes."""
        with _loss_in_words():
            distributed.all_reduce(values)
        return values

    def gather(self, values: Tensor) -> Tensor:
        """The values of all processes, `[number, n]` of `[n]`; n is the same in all."""
        parts = [torch.empty_like(values) for _ in range(self.number)]
        with _loss_in_words():
            distributed.all_gather(parts, values)
        return torch.stack(parts)

    def gather_bytes(self, content: bytes) -> list[bytes]:
        """What each process has to say."""
        if self.number == 1:
            return [content]
        lengths = self.gather(torch.tensor([len(content)], device=self._device)).flatten().tolist()
        padded = torch.zeros(max(lengths), dtype=torch.uint8, device=self._device)
        padded[: len(content)] = _tensor_of(content)
        gathered = self.gather(padded).cpu()
        return [
            part[:length].numpy().tobytes() for part, length in zip(gathered, map(int, lengths), strict=True)
        ]

    def from_first(self, content: bytes) -> bytes:
        """What the first process has to say."""
        if self.number == 1:
            return content
        length = torch.tensor([len(content)], device=self._device)
        with _loss_in_words():
            distributed.broadcast(length, 0)
            values = torch.empty(int(length), dtype=torch.uint8, device=self._device)
            if self.is_first:
                values.copy_(_tensor_of(content))
            distributed.broadcast(values, 0)
        return values.cpu().numpy().tobytes()

    def from_each_machine(self, make: Callable[[Callable[[], None]], bytes]) -> list[bytes]:
        """What the first process of each machine makes, for as long as it takes.

        Parameters
        ----------
        make : callable
            Makes it; is given a function that raises `RankLostError` once another process has ended.
        """
        if self.number == 1:
            return [make(lambda: None)]
        made = self._made_in_touch(make if self.local_rank == 0 else lambda check: b"")
        return [content for content in self.gather_bytes(made) if content]

    def _made_in_touch(self, make: Callable[[Callable[[], None]], bytes]) -> bytes:
        """Make something in this process; a thread says meanwhile that it goes on, since no other waits for ever."""
        is_made, has_failed = Event(), Event()
        losses: list[RankLostError] = []

        def stay_in_touch() -> None:
            try:
                while True:
                    is_done = is_made.wait(_TOUCH_SECONDS)
                    if has_failed.is_set() or self.all_agree(is_done):
                        return
            except RankLostError as error:
                losses.append(error)

        def check() -> None:
            if losses:
                raise losses[0]

        thread = Thread(target=stay_in_touch, daemon=True)
        thread.start()
        try:
            made = make(check)
        except BaseException:
            has_failed.set()
            raise
        finally:
            is_made.set()
            thread.join()
        check()
        return made

    def all_agree(self, is_so: bool) -> bool:
        """Whether it is so in each process."""
        return all(content == b"1" for content in self.gather_bytes(b"1" if is_so else b"0"))

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Raise `TrainingError` in all processes if one has other facts than the first, and say which."""
        said = [json.loads(content) for content in self.gather_bytes(json.dumps(dict(facts)).encode())]
        for rank, others in enumerate(said):
            different = sorted(name for name in facts if others.get(name) != said[0].get(name))
            if different:
                raise TrainingError(
                    f"process {rank + 1} of {self.number} has other {' and '.join(different)} than the first; "
                    "start the same command with the same version on each machine, where it finds the same images"
                )

    def leave(self) -> None:
        """Leave the others, who may go on."""
        if self.number > 1 and distributed.is_initialized():
            distributed.destroy_process_group()


def join(place: Place | None, device: torch.device) -> Ranks:
    """Wait for the other processes of a training, and meet them: with NCCL on GPUs, with gloo on processors.

    Parameters
    ----------
    place : Place, optional
        Where this process stands among them; None for a process that is alone.
    device : torch.device
        What kind of device each trains on.

    Raises
    ------
    UsageError
        If this machine has fewer GPUs than processes.
    RankLostError
        If they cannot be reached.
    """
    if place is None:
        return Ranks()
    for name in ("lightning_fabric", "lightning_fabric.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    if device.type == "cuda":
        n_devices = torch.cuda.device_count()
        if n_devices < place.local_number:
            raise UsageError(
                f"{place.local_number} processes on this machine need as many GPUs, and there are {n_devices}; "
                f"use --devices {n_devices}, or --device cpu"
            )
        torch.cuda.set_device(place.local_rank)
    fabric_in = partial(_fabric, place, device)
    with _loss_in_words():
        # any precision: which one they train in, the first process says when they have met
        fabric = fabric_in("fp32")
        fabric.launch()
    return Ranks(place.rank, place.number, place.local_rank, place.local_number, fabric_in, fabric.device)


def _fabric(place: Place, device: torch.device, precision: Precision) -> "Fabric":
    """The Fabric of one of several processes; launching one of them makes the process group of all."""
    # importing it takes as long as importing PyTorch
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
    from lightning_fabric.strategies.ddp import DDPStrategy

    # DDP's process group, but not its wrapper, which expects one backward pass for each forward pass of a network,
    # and knows neither losses over all rows nor batch norm on processors
    strategy = DDPStrategy(
        cluster_environment=SLURMEnvironment(auto_requeue=False)
        if place.by_slurm
        else TorchElasticEnvironment(),
        process_group_backend="nccl" if device.type == "cuda" else "gloo",
        timeout=_TIMEOUT,
    )
    return Fabric(
        accelerator=device.type,
        devices=place.local_number,
        num_nodes=place.number // place.local_number,
        strategy=strategy,
        precision="bf16-mixed" if precision == "bf16" else "32-true",
    )


class SharedPrecision:
    """The `Precision` of a training step, of one process or several."""

    def __init__(self, fabric: "Fabric", ranks: Ranks) -> None:
        self._fabric, self._ranks = fabric, ranks

    def autocast(self) -> AbstractContextManager[Any]:
        """Fabric's."""
        return self._fabric.autocast()

    def backward(self, tensor: Tensor, *args: Any, **kwargs: Any) -> None:
        """Fabric's."""
        self._fabric.backward(tensor, *args, **kwargs)

    def by_rows(self, function: Callable[..., tuple[Tensor, ...]], *inputs: Tensor) -> tuple[Tensor, ...]:
        """Divide the rows among the processes."""
        return self._ranks.by_rows(function, *inputs)


class _Gathered(Function):
    """The rows of all processes, of outputs that each has for its own rows.

    The backward pass is the adjoint: gradients are summed over the processes, and each takes those of its rows. What
    is minimised is the mean of all processes' losses, which are the same; so the averaged gradients of the weights
    are those of the loss.
    """

    @staticmethod
    def forward(ctx: Any, ranks: Ranks, n: int, *outputs: Tensor) -> tuple[Tensor, ...]:
        ctx.ranks, ctx.n = ranks, n
        ctx.kinds = [(output.shape[1:], output.dtype) for output in outputs]
        ctx.set_materialize_grads(False)
        most = -(-n // ranks.number)  # rows of a process
        parts = []
        for output in outputs:
            rows = _rows_first(output)
            content = rows.new_zeros(most, *rows.shape[1:])
            content[: len(rows)] = rows
            parts.append(content.flatten().view(torch.uint8))
        gathered = ranks.gather(torch.cat(parts))  # [number, bytes]
        results = []
        for (shape, dtype), part in zip(
            ctx.kinds, torch.split(gathered, [len(part) for part in parts], dim=1), strict=True
        ):
            rows = part.clone(memory_format=torch.contiguous_format).view(dtype).view(ranks.number, most, -1)
            taken = [rows[rank, : _length(ranks.rows(n, rank))] for rank in range(ranks.number)]
            results.append(_rows_last(torch.cat(taken), shape))
        needed = ctx.needs_input_grad[2:]
        ctx.mark_non_differentiable(
            *(result for result, is_needed in zip(results, needed, strict=True) if not is_needed)
        )
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        ranks: Ranks = ctx.ranks
        present = [_rows_first(gradient).float() for gradient in gradients if gradient is not None]
        total = ranks.sum(torch.cat([gradient.flatten() for gradient in present]))
        sums = iter(torch.split(total, [gradient.numel() for gradient in present]))
        own = ranks.rows(ctx.n)
        return (
            None,
            None,
            *(
                None if gradient is None else _rows_last(next(sums).view(ctx.n, -1)[own], shape).to(dtype)
                for gradient, (shape, dtype) in zip(gradients, ctx.kinds, strict=True)
            ),
        )


def _rows_first(x: Tensor) -> Tensor:
    """As stored in channels last: `[N, C, H, W]` to `[N, H, W, C]`."""
    return (x.permute(0, 2, 3, 1) if x.dim() == 4 else x).contiguous()


def _rows_last(rows: Tensor, shape: Sequence[int]) -> Tensor:
    """Back, from `[N, H·W·C]`."""
    if len(shape) != 3:
        return rows.reshape(len(rows), *shape)
    channels, height, width = shape
    return rows.reshape(len(rows), height, width, channels).permute(0, 3, 1, 2)


def _length(rows: slice) -> int:
    return int(rows.stop - rows.start)


def _tensor_of(content: bytes) -> Tensor:
    return (
        torch.frombuffer(bytearray(content), dtype=torch.uint8)
        if content
        else torch.empty(0, dtype=torch.uint8)
    )


@contextmanager
def _loss_in_words() -> Iterator[None]:
    """Say in a sentence that another process cannot be reached."""
    try:
        yield
    except RuntimeError as error:  # gloo's, NCCL's and the rendezvous' errors all are
        raise RankLostError(
            "another process of this training ended or cannot be reached; the same command resumes from the last "
            "checkpoint"
        ) from error
