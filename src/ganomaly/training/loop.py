"""The one training loop: normal images in, weights out.

Everything random follows from the seed: weights, the order of the images in each epoch, and what mending
draws. So a run that was killed and goes on from its checkpoint ends with the weights it would have had.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Generator
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Precision, Preprocessing, TrainingOptions
from ganomaly.data import ImageLoader
from ganomaly.devices import choose_device, choose_precision, full_precision, make_fabric
from ganomaly.errors import TrainingError
from ganomaly.methods import Method, Step
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import in_channels_last, network_input
from ganomaly.training.checkpoint import CheckpointState, load_checkpoint, save_checkpoint

log = logging.getLogger(__name__)

CHECK_EVERY = 25  # steps between two looks at the losses; each look waits for the device
PATIENCE = 40  # looks in a row at which mending was needed before training gives up
SCALES_IMAGES = 256  # that `fit_scales` sees
STATISTICS_BATCH = 256  # images per batch that `fit_statistics` sees
COLLAPSE_IMAGES = 64  # images that the end-of-epoch look at collapse takes


@dataclass(frozen=True)
class TrainingProgress:
    """Where training stands, for people.

    Attributes
    ----------
    step, steps : int
        Steps done and steps in all.
    epoch, epochs : int
        The running epoch, from 1, and epochs in all.
    losses : mapping of str to float
        As of the last look at them.
    images_per_second : float
        Since this process began to train.
    seconds_left : float
        Estimated from that.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    losses: Mapping[str, float]
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class TrainingResult:
    """A trained method and what is worth knowing of its training.

    Attributes
    ----------
    method : Method
        On the device it was trained on, in eval mode.
    precision : str
        'fp32' or 'bf16'.
    seconds : float
        Time spent in the loop, over all interruptions.
    wait_share : float
        Share of this process's training time spent waiting for images.
    messages : tuple of str
        What had to be mended on the way.
    """

    method: Method
    precision: Precision
    seconds: float
    wait_share: float
    messages: tuple[str, ...]


def train(
    method_type: type[Method],
    options: MethodOptions,
    preprocessing: Preprocessing,
    images: ImageLoader,
    indices: NDArray[np.int64],
    training: TrainingOptions,
    *,
    checkpoint: Path | None = None,
    resume: bool = True,
    fingerprint: str = "",
    on_progress: Callable[[TrainingProgress], None] = lambda _: None,
    on_epoch: Callable[[Method], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> TrainingResult:
    """Train a method on normal images.

    Parameters
    ----------
    method_type : type of Method
        What to train.
    options, preprocessing, training
        Its options, the network input, and how the loop runs.
    images : ImageLoader
        The images.
    indices : ndarray
        `int[n]`, those of them to train on.
    checkpoint : Path, optional
        Where to keep the state, so that a killed run can go on. Left for the caller to remove.
    resume : bool
        Whether to go on from `checkpoint` if it exists.
    fingerprint : str
        Identity of the data; a checkpoint of other data is refused.
    on_progress : callable
        Called after each step.
    on_epoch : callable
        Called with the method after each epoch; it must leave the weights as they are.
    say : callable
        Told in a sentence when training goes on from a checkpoint.

    Raises
    ------
    TrainingError
        If the losses are no longer numbers, if mending does not help, if the latent collapses, or if the
        checkpoint belongs to another run.
    """
    device = choose_device(training.device)
    precision = choose_precision(training.precision, device)
    fabric = make_fabric(device, precision)
    method = method_type(options, preprocessing, Generator().manual_seed(training.seed))
    method = in_channels_last(method.to(device))
    optimizers = method.optimizers()
    identity = {
        "method": method.name,
        "options": options.model_dump_json(),
        "preprocessing": preprocessing.model_dump_json(),
        "training": training.model_copy(update={"precision": precision}).model_dump_json(
            exclude={"checkpoint_seconds", "device"}
        ),
        "data": fingerprint,
        "training images": str(len(indices)),
    }
    state = CheckpointState()
    if checkpoint is not None and resume and checkpoint.exists():
        state = load_checkpoint(checkpoint, identity, method, optimizers)
        say(f"Going on from step {state.step} of the run that was stopped")

    run = _Run(method, optimizers, fabric, preprocessing, images, indices, training, state, on_progress)
    run.save = (
        None
        if checkpoint is None
        else lambda: save_checkpoint(checkpoint, identity, method, optimizers, state)
    )
    run.on_epoch = on_epoch
    run.to_the_end()
    return TrainingResult(method.eval(), precision, state.seconds, run.wait_share(), tuple(state.messages))


class _Run:
    """One run of the loop; a class only because its steps share so much."""

    def __init__(
        self,
        method: Method,
        optimizers: Mapping[str, Optimizer],
        fabric: Fabric,
        preprocessing: Preprocessing,
        images: ImageLoader,
        indices: NDArray[np.int64],
        training: TrainingOptions,
        state: CheckpointState,
        on_progress: Callable[[TrainingProgress], None],
    ) -> None:
        self.method, self.optimizers, self.fabric = method, optimizers, fabric
        self.preprocessing, self.images, self.indices = preprocessing, images, indices
        self.training, self.state, self.on_progress = training, state, on_progress
        self.batch_size = min(training.batch_size, len(indices) * images.patches_per_image)
        # an epoch sees as many patches as cover the images; the last, smaller batch is left to chance
        self.steps_per_epoch = len(indices) * images.patches_per_image // self.batch_size
        self.steps = training.steps or training.epochs * self.steps_per_epoch
        self.save: Callable[[], None] | None = None
        self.on_epoch: Callable[[Method], None] = lambda _: None
        self.losses: dict[str, float] = {}
        self.first_step = state.step
        self.seconds_before = state.seconds
        self.started = self.last_saved = time.perf_counter()
        self.waited_before = images.wait_seconds

    def to_the_end(self) -> None:
        """Train from the state's step to the last one, then let the method learn what is normal."""
        if self.state.step == 0:
            self._look_beforehand()
        while self.state.step < self.steps:
            self._epoch(self.state.step // self.steps_per_epoch)
        self._learn_normal()
        self._note_time()

    def wait_share(self) -> float:
        elapsed = self.state.seconds - self.seconds_before
        return (self.images.wait_seconds - self.waited_before) / elapsed if elapsed > 0 else 0.0

    def _look_beforehand(self) -> None:
        some = np.random.default_rng(self.training.seed).permutation(self.indices)[:SCALES_IMAGES]
        for pixels in self.images.training_batches(iter([some]), iter([[self.training.seed]])):
            with torch.no_grad():
                self.method.fit_scales(self._input(pixels))

    def _learn_normal(self) -> None:
        wanted = self.method.statistics_images
        if wanted == 0:
            return
        some = np.random.default_rng(self.training.seed).permutation(self.indices)[:wanted]
        batches = np.array_split(some, range(STATISTICS_BATCH, len(some), STATISTICS_BATCH))
        self.method.eval()
        with torch.no_grad(), full_precision(self.fabric.device):
            self.method.fit_statistics(self._input(pixels) for pixels in self.images.batches(iter(batches)))

    def _input(self, pixels: NDArray[np.uint8] | NDArray[np.uint16]) -> torch.Tensor:
        return network_input(pixels, self.preprocessing.white_level, self.fabric.device)

    def _epoch(self, epoch: int) -> None:
        """Run the steps of an epoch that are not done yet."""
        done = self.state.step - epoch * self.steps_per_epoch
        last = min(self.steps_per_epoch, self.steps - epoch * self.steps_per_epoch)
        batches = self._order(epoch)[done:last]
        seeds = ([self.training.seed, epoch, number] for number in range(done, last))
        self.method.train()
        losses: dict[str, torch.Tensor] = {}
        for pixels in self.images.training_batches(iter(batches), seeds):
            x = self._input(pixels)
            losses = self.method.training_step(
                x, self.optimizers, self.fabric, Step(self.state.step, self.steps)
            )
            self.state.step += 1
            if self.state.step % CHECK_EVERY == 0:
                self._look(losses)
            self._report(epoch)
            if self.save is not None and self._seconds_since_saved() >= self.training.checkpoint_seconds:
                self._look_finite(losses)
                self._save()
        # batches of broken images alone are left out; the count of steps follows the plan
        self.state.step = epoch * self.steps_per_epoch + last
        if losses:
            self._look_finite(losses)
        self._look_for_collapse()
        self.on_epoch(self.method)

    def _order(self, epoch: int) -> NDArray[np.int64]:
        """Indices of the batches of an epoch, `int[steps, batch]`; they follow from seed and epoch alone."""
        indices = np.repeat(self.indices, self.images.patches_per_image)
        shuffled = np.random.default_rng([self.training.seed, epoch]).permutation(indices)
        return shuffled[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)

    def _look(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Wait for the losses, stop if they are broken, mend what can be mended."""
        self._look_finite(losses)
        state = self.state
        message = self.method.recover(
            self.losses, Generator().manual_seed((self.training.seed * 1_000_003 + state.step) % 2**63)
        )
        state.mended_in_a_row = 0 if message is None else state.mended_in_a_row + 1
        if message is None:
            return
        state.messages.append(f"step {state.step}: {message}")
        log.info("step %d: %s", state.step, message)
        if state.mended_in_a_row >= PATIENCE:
            raise TrainingError(
                f"training has collapsed: {message}, {PATIENCE} times in a row up to step {state.step}; "
                "use more or more varied normal images, or another seed"
            )

    def _look_finite(self, losses: Mapping[str, torch.Tensor]) -> None:
        names = list(losses)
        values = torch.stack([losses[name].float() for name in names]).tolist()  # one wait for the device
        self.losses = dict(zip(names, values, strict=True))
        broken = [name for name, value in self.losses.items() if not np.isfinite(value)]
        if broken:
            raise TrainingError(
                f"training diverged: the {' and '.join(broken)} loss is not a number at step {self.state.step}; "
                "train with --precision fp32 or another seed; the last checkpoint is from before that"
            )

    def _look_for_collapse(self) -> None:
        # not the first ones: those by name may be copies of one image, as where a video begins
        some = np.random.default_rng(self.training.seed).permutation(self.indices)[:COLLAPSE_IMAGES]
        pixels = next(self.images.training_batches(iter([some]), iter([[self.training.seed]])), None)
        if pixels is None:
            return
        with eval_mode(self.method):
            trouble = self.method.collapse(self._input(pixels), Step(self.state.step, self.steps))
        if trouble is not None:
            raise TrainingError(f"training has collapsed by step {self.state.step}: {trouble}")

    def _report(self, epoch: int) -> None:
        steps = self.steps
        elapsed = time.perf_counter() - self.started
        here = self.state.step - self.first_step
        self.on_progress(
            TrainingProgress(
                step=self.state.step,
                steps=steps,
                epoch=epoch + 1,
                epochs=-(-steps // self.steps_per_epoch),
                losses=self.losses,
                images_per_second=here * self.batch_size / elapsed,
                seconds_left=elapsed / here * (steps - self.state.step),
            )
        )

    def _note_time(self) -> None:
        self.state.seconds = self.seconds_before + time.perf_counter() - self.started

    def _seconds_since_saved(self) -> float:
        return time.perf_counter() - self.last_saved

    def _save(self) -> None:
        self._note_time()
        if self.save is not None:
            self.save()
        self.last_saved = time.perf_counter()
