"""What a piece of work needs: floating-point operations, and the bytes that its operators read and write."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class Needs(NamedTuple):
    """Floating-point operations of convolutions and products; bytes that all operators read and write."""

    flop: int
    n_bytes: int


def count(work: Callable[[], object]) -> Needs:
    """Run some work once and count."""
    with FlopCounterMode(display=False) as arithmetic:
        work()
    with _Traffic() as traffic:
        work()
    return Needs(int(arithmetic.get_total_flops()), traffic.n_bytes)


class _Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]  # PyTorch leaves its __init_subclass__ untyped
    """Sums the sizes of what each operator reads and writes; a view costs nothing."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # PyTorch leaves it untyped
        self.n_bytes = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Compute one of PyTorch's operations and count it."""
        result = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        sources = {tensor.untyped_storage().data_ptr() for tensor in read}
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        new = [tensor for tensor in made if tensor.untyped_storage().data_ptr() not in sources]
        if new or func._schema.is_mutable:
            written = made if func._schema.is_mutable else new
            self.n_bytes += sum(tensor.numel() * tensor.element_size() for tensor in (*read, *written))
        return result


def top_operators(work: Callable[[], object], times: int, n: int = 6) -> list[tuple[str, float]]:
    """The operators that take most of the time of some work, each with its share."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for _ in range(times):
            work()
    averages = profile.key_averages()
    total = sum(event.self_cpu_time_total for event in averages)
    largest = sorted(averages, key=lambda event: -event.self_cpu_time_total)[:n]
    return [(event.key.removeprefix("aten::"), event.self_cpu_time_total / total) for event in largest]
