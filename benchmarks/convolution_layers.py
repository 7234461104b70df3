"""What each of the package's own convolutions saves: one replaced by PyTorch's at a time, in alternating steps.

Processor time of the process and wall time, for a training step in the given precision and for a prediction in fp32:
preset paper, 1 channel, batch 64, seed 0; medians, and the median ratio to the package's own step of the same round.
Other work on the machine has little influence on the processor time. With more than one thread, the wall time shows
how long threads wait for one another.

Run: python benchmarks/convolution_layers.py [--size 32] [--precision bf16] [--rounds 16]
"""

import argparse
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn

from ganomaly.config import Precision, Preprocessing
from ganomaly.devices import choose_device, make_fabric
from ganomaly.methods.base import Step
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.networks.convolution import FEW_CHANNELS, Conv2d, ConvTranspose2d
from ganomaly.tensors import in_channels_last
from ganomaly.training.ranks import Ranks, SharedPrecision
from machine import describe_machine

BATCH = 64
Layer = Conv2d | ConvTranspose2d


def between_4x4_and_1x1(layer: Layer) -> bool:
    """The end of encoder and discriminator, and the first layer of the decoder."""
    return layer.padding == (0, 0)


def to_the_image(layer: Layer) -> bool:
    """The last layer of the decoder."""
    return isinstance(layer, ConvTranspose2d) and layer.out_channels <= FEW_CHANNELS


def from_the_image(layer: Layer) -> bool:
    """The first layer of encoder and discriminator."""
    return layer.in_channels <= FEW_CHANNELS


def all_others(layer: Layer) -> bool:
    """The layers between; their weights' gradients in bf16 are the package's own."""
    return not (between_4x4_and_1x1(layer) or to_the_image(layer) or from_the_image(layer))


def all_layers(layer: Layer) -> bool:
    """All layers."""
    return True


PYTORCH_LAYERS: dict[str, Callable[[Layer], bool]] = {
    "none": lambda layer: False,
    "4×4 ↔ 1×1": between_4x4_and_1x1,
    "to the image": to_the_image,
    "from the image": from_the_image,
    "all others": all_others,
    "all": all_layers,
}


def networks(size: int, is_pytorch: Callable[[Layer], bool]) -> GANomaly:
    """The networks, some of whose layers are PyTorch's own."""
    preprocessing = Preprocessing(image_size=size, channels=1)
    method = in_channels_last(GANomaly(GANomalyOptions(), preprocessing, torch.Generator().manual_seed(0)))
    for layer in method.modules():
        if isinstance(layer, Layer) and is_pytorch(layer):
            layer.__class__ = nn.Conv2d if isinstance(layer, Conv2d) else nn.ConvTranspose2d  # type: ignore[assignment]
    return method


def training_step(method: GANomaly, x: Tensor, precision: Precision) -> Callable[[], object]:
    """A training step of `ganomaly fit`."""
    fabric, optimizers = make_fabric(choose_device("cpu"), precision), method.train().optimizers()
    return lambda: method.training_step(x, optimizers, SharedPrecision(fabric, Ranks()), Step(0, 1))


def prediction(method: GANomaly, x: Tensor) -> Callable[[], object]:
    """A prediction of a batch."""
    method.eval()
    return torch.inference_mode()(lambda: method.predict(x))


def measure(name: str, runs: dict[str, Callable[[], object]], rounds: int) -> None:
    """Alternate the runs, and print a line for each."""
    seconds: dict[str, list[tuple[float, float]]] = {layers: [] for layers in runs}
    for number in range(rounds + 1):
        for layers in runs if number % 2 else reversed(runs):
            processor, wall = time.process_time(), time.perf_counter()
            runs[layers]()
            if number:  # the first round warms up
                seconds[layers].append((time.process_time() - processor, time.perf_counter() - wall))
    print(f"{name}; PyTorch's own layers: processor ms, ratio; wall ms, ratio")
    for layers, times in seconds.items():
        columns = [f"{layers:14}"]
        for clock in (0, 1):
            median = statistics.median(run[clock] for run in times)
            ratio = statistics.median(
                run[clock] / own[clock] for run, own in zip(times, seconds["none"], strict=True)
            )
            columns.append(f"{1000 * median:8.1f} {ratio:6.2f}")
        print("  ".join(columns), flush=True)


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--precision", choices=get_args(Precision), default="fp32")
    parser.add_argument("--rounds", type=int, default=16)
    arguments = parser.parse_args()
    print(describe_machine())
    size, rounds = arguments.size, arguments.rounds
    x = torch.rand(BATCH, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    x = x.contiguous(memory_format=torch.channels_last)
    trained = {
        name: training_step(networks(size, is_pytorch), x, arguments.precision)
        for name, is_pytorch in PYTORCH_LAYERS.items()
    }
    measure(f"training step, {size} px, {arguments.precision}", trained, rounds)
    predicted = {
        name: prediction(networks(size, is_pytorch), x) for name, is_pytorch in PYTORCH_LAYERS.items()
    }
    measure(f"prediction, {size} px, fp32", predicted, rounds)


if __name__ == "__main__":
    main()
