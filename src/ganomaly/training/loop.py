"""The one training loop: normal images in, weights out.

Everything random follows from the seed: weights, the order of the images in each epoch, and what a recovery draws. So
a run that was killed and goes on from its checkpoint ends with the weights it would have had.
"""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Generator
from torch.optim import Optimizer

from ganomaly.config import MethodOptions, Precision, Preprocessing, TrainingOptions
from ganomaly.data import ImageLoader, Pixels
from ganomaly.data.ignored_region import split_region
from ganomaly.devices import choose_device
from ganomaly.errors import TrainingError, UsageError
from ganomaly.methods import Method, Step
from ganomaly.methods.products import with_own_statistics
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.tensors import in_channels_last, network_input
from ganomaly.training.checkpoint import Checkpoint, RunState, share_state
from ganomaly.training.memory import check_fits_memory
from ganomaly.training.observers import TrainingProgress
from ganomaly.training.precision import precision_of_run
from ganomaly.training.ranks import Ranks, SharedPrecision
from ganomaly.training.shared_batch_norm import shared_batch_norm
from ganomaly.training.statistics import STATISTICS_COST, fit_statistics, seconds_of_a_prediction
from ganomaly.training.time_left import TimeLeft

log = logging.getLogger(__name__)

CHECK_INTERVAL = 25  # steps between two checks of the losses; each waits for the device
MAX_RECOVERIES = 40  # checks in a row that needed a recovery before training gives up
SCALES_IMAGES = 256  # that `fit_scales` gets
SQUARES_AT_ONCE = 16  # images that are predicted to measure what that takes; others one by one
COLLAPSE_IMAGES = 64  # that the check for collapse at the end of an epoch takes


@dataclass(frozen=True)
class TrainingResult:
    """A trained method and how its training went.

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
        What was recovered from, with the step.
    of_products : mapping of str to Method
        For each product a method with its statistics and the same networks; empty without products.
    """

    method: Method
    precision: Precision
    seconds: float
    wait_share: float
    messages: tuple[str, ...]
    of_products: Mapping[str, Method] = field(default_factory=dict)


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
    on_statistics: Callable[[int, int], None] = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    products: Mapping[str, NDArray[np.int64]] | None = None,
    ranks: Ranks | None = None,
    n_predicted_after: int = 0,
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
        `int64[n]`, those of them to train on.
    checkpoint : Path, optional
        Where to save the state, so that a killed run can go on. The caller removes it.
    resume : bool
        Whether to go on from `checkpoint` if it exists.
    fingerprint : str
        Identity of the data; a checkpoint of other data is refused.
    on_progress : callable
        Called after each step.
    on_epoch : callable
        Called with the method after each epoch; it must not change the weights.
    on_statistics : callable
        Called with how many images have been read for statistics, and how many are to be.
    say : callable
        Called with a sentence when training goes on from a checkpoint.
    products : mapping of str to ndarray, optional
        Products with statistics of their own, and the training images of each, `int64[n]`.
    ranks : Ranks, optional
        The processes that train together; each calls this with the same arguments, and the first alone has a
        checkpoint, is told how it goes, and fits statistics.
    n_predicted_after : int
        Images that the caller predicts next; the time left counts them.

    Raises
    ------
    UsageError
        If the networks need more memory than there is, or there are fewer images in a batch than processes.
    TrainingError
        If the losses are not numbers, if recoveries do not help, if the latent collapses, or if the checkpoint
        belongs to another run.
    """
    device = choose_device(training.device)
    ranks = ranks or Ranks()
    batch_size = min(training.batch_size, len(indices))
    if batch_size < ranks.number:
        raise UsageError(
            f"{ranks.number} processes share the {batch_size} images of a batch; use {batch_size} devices at most"
        )
    check_fits_memory(method_type, options, preprocessing, batch_size=batch_size, device=device)
    resolved: Precision = "fp32"
    if ranks.is_first:  # it has the checkpoint, and another process would measure other times
        resolved = precision_of_run(
            method_type,
            options,
            preprocessing,
            training,
            batch_size=batch_size,
            n_steps=run_length(training, len(indices), images.patches_per_image)[2],
            checkpoint=checkpoint if resume else None,
            say=say,
        )
    precision: Precision = "bf16" if ranks.from_first(resolved.encode()) == b"bf16" else "fp32"
    method = method_type(options, preprocessing, Generator().manual_seed(training.seed))
    method = in_channels_last(method.to(device))
    optimizers = method.optimizers()
    state = RunState()
    saved = None
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
    ranks.check_same(identity | {"readable images": str(sorted(images.failures))})
    if checkpoint is not None and ranks.is_first:
        saved = Checkpoint(checkpoint, identity)
        if resume and checkpoint.exists():
            state = saved.load(method, optimizers)
            say(f"Going on from step {state.step} of the run that was stopped")
    run = _Run(
        method=method,
        optimizers=optimizers,
        fabric=ranks.make_fabric(device, precision),
        ranks=ranks,
        preprocessing=preprocessing,
        images=images,
        indices=indices,
        training=training,
        state=state,
        checkpoint=saved,
        on_progress=on_progress,
        on_epoch=on_epoch,
        on_statistics=on_statistics,
        n_whole_images=n_predicted_after
        + STATISTICS_COST
        * sum(min(len(part), method.statistics_images) for part in (products or {"": indices}).values()),
    )
    run.finish(with_statistics=not products)
    of_products = {
        name: run.of_product(indices) for name, indices in (products or {}).items() if ranks.is_first
    }
    return TrainingResult(
        method.eval(), precision, state.seconds, run.wait_share(), tuple(state.messages), of_products
    )


def run_length(training: TrainingOptions, n_images: int, patches_per_image: int) -> tuple[int, int, int]:
    """Images or patches in a batch, steps in an epoch, and steps in all.

    An epoch has as many patches as cover the images; what does not fill a batch is left out at random.
    """
    batch_size = min(training.batch_size, n_images * patches_per_image)
    steps_per_epoch = n_images * patches_per_image // batch_size
    return batch_size, steps_per_epoch, training.steps or training.epochs * steps_per_epoch


class _Run:
    """One run of the loop, complete once constructed; `finish` trains from the state's step to the last one."""

    def __init__(
        self,
        *,
        method: Method,
        optimizers: Mapping[str, Optimizer],
        fabric: Fabric,
        ranks: Ranks,
        preprocessing: Preprocessing,
        images: ImageLoader,
        indices: NDArray[np.int64],
        training: TrainingOptions,
        state: RunState,
        checkpoint: Checkpoint | None,
        on_progress: Callable[[TrainingProgress], None],
        on_epoch: Callable[[Method], None],
        on_statistics: Callable[[int, int], None],
        n_whole_images: float,
    ) -> None:
        self.method, self.optimizers, self.fabric, self.ranks = method, optimizers, fabric, ranks
        self.precision = SharedPrecision(fabric, ranks)
        self.preprocessing, self.images, self.indices = preprocessing, images, indices
        self.training, self.state, self.checkpoint = training, state, checkpoint
        self.on_progress, self.on_epoch, self.on_statistics = on_progress, on_epoch, on_statistics
        self.n_whole_images = n_whole_images  # that are predicted after training
        self.batch_size, self.steps_per_epoch, self.steps = run_length(
            training, len(indices), images.patches_per_image
        )
        self.losses: dict[str, float] = {}
        self.losses_step = 0
        self.first_step = state.step
        self.seconds_before = state.seconds
        self.started = self.last_saved = time.perf_counter()
        self.waited_before = images.wait_seconds

    def finish(self, *, with_statistics: bool = True) -> None:
        """Load pretrained weights, fit scales, train to the last step, fit statistics of all images."""
        if self.state.step == 0 and self.ranks.is_first:
            self.method.load_pretrained()
            self._fit_scales()
        self.state = share_state(self.ranks, self.method, self.optimizers, self.state)
        self.first_step = self.state.step
        self.time_left = TimeLeft(self.first_step, self.steps, self._seconds_of_whole_images)
        if self.ranks.number > 1:
            for optimizer in self.optimizers.values():
                optimizer.register_step_pre_hook(
                    lambda optimizer, *_: self.ranks.average_gradients(optimizer)
                )
        while self.state.step < self.steps:
            with shared_batch_norm(self.method, self.ranks):
                self._epoch(self.state.step // self.steps_per_epoch)
            if self.ranks.is_first:
                self._check_collapse()
                self.on_epoch(self.method)
        if self.checkpoint is not None and self.state.step > self.first_step:
            self._save()  # so that a run that is stopped from here on need not train again
        if with_statistics and self.ranks.is_first:
            self._fit_statistics(self.method, self.indices)
        self._update_seconds()

    def of_product(self, indices: NDArray[np.int64]) -> Method:
        """The trained networks with statistics of some of the images."""
        method = with_own_statistics(self.method)
        self._fit_statistics(method, indices)
        return method.eval()

    def wait_share(self) -> float:
        """Share of the training time spent waiting for images."""
        elapsed = self.state.seconds - self.seconds_before
        return (self.images.wait_seconds - self.waited_before) / elapsed if elapsed > 0 else 0.0

    def _fit_scales(self) -> None:
        some = np.random.default_rng(self.training.seed).permutation(self.indices)[:SCALES_IMAGES]
        for pixels in self.images.training_batches(iter([some]), iter([[self.training.seed]])):
            with torch.no_grad():
                self.method.fit_scales(self._input(pixels))

    def _fit_statistics(self, method: Method, indices: NDArray[np.int64]) -> None:
        fit_statistics(
            method,
            self.images,
            indices,
            seed=self.training.seed,
            to_input=self._input_and_region,
            on_images=self.on_statistics,
        )

    def _input(self, pixels: Pixels) -> torch.Tensor:
        return self._input_and_region(pixels)[0]

    def _input_and_region(self, pixels: Pixels) -> tuple[torch.Tensor, torch.Tensor]:
        """x, and where it is ignored, `bool[N, h, w]`."""
        pixels, region = split_region(pixels, self.preprocessing.channels)
        x = network_input(pixels, self.preprocessing.white_level, self.fabric.device)
        ignored = np.zeros(pixels.shape[:3], dtype=np.bool_) if region is None else region
        return x, torch.from_numpy(ignored).to(x.device)

    def _epoch(self, epoch: int) -> None:
        """Run the steps of an epoch that are not done yet."""
        done = self.state.step - epoch * self.steps_per_epoch
        last = min(self.steps_per_epoch, self.steps - epoch * self.steps_per_epoch)
        batches = self._index_batches(epoch)[done:last]
        seeds = ([self.training.seed, epoch, number] for number in range(done, last))
        self.method.train()
        losses: dict[str, torch.Tensor] = {}
        for pixels in self.images.training_batches(iter(batches), seeds, self.ranks):
            x = self._input(pixels)
            losses = self.method.training_step(x, self.optimizers, self.precision, self._step())
            self.state.step += 1
            if self.state.step % CHECK_INTERVAL == 0:
                self._check(losses)
            elif self.state.step == epoch * self.steps_per_epoch + last:
                self._check_finite(losses)  # so that who is told of the last step has its losses
            self._report(epoch)
            self._save_if_due(losses)
        # batches of unreadable images alone are left out; the step follows the plan
        self.state.step = epoch * self.steps_per_epoch + last
        if losses:
            self._check_finite(losses)

    def _step(self) -> Step:
        return Step(self.state.step, self.steps)

    def _index_batches(self, epoch: int) -> NDArray[np.int64]:
        """Indices of the batches of an epoch, `int64[steps, batch]`; they follow from seed and epoch alone."""
        indices = np.repeat(self.indices, self.images.patches_per_image)
        shuffled = np.random.default_rng([self.training.seed, epoch]).permutation(indices)
        return shuffled[: self.steps_per_epoch * self.batch_size].reshape(-1, self.batch_size)

    def _check(self, losses: Mapping[str, torch.Tensor]) -> None:
        """Wait for the losses, stop if they are not numbers, recover from what can be recovered from."""
        self._check_finite(losses)
        # all processes recover or none, though the last bit of a loss may differ between processors
        self.losses = json.loads(self.ranks.from_first(json.dumps(self.losses).encode()))
        state = self.state
        message = self.method.recover(
            self.losses, Generator().manual_seed((self.training.seed * 1_000_003 + state.step) % 2**63)
        )
        state.recoveries_in_a_row = 0 if message is None else state.recoveries_in_a_row + 1
        if message is None:
            return
        state.messages.append(f"step {state.step}: {message}")
        log.info("step %d: %s", state.step, message)
        if state.recoveries_in_a_row >= MAX_RECOVERIES:
            raise TrainingError(
                f"training has collapsed: {message}, {MAX_RECOVERIES} times in a row up to step {state.step}; "
                "use more or more varied normal images, or another seed"
            )

    def _check_finite(self, losses: Mapping[str, torch.Tensor]) -> None:
        names = list(losses)
        values = torch.stack([losses[name].float() for name in names]).tolist()  # one wait for the device
        self.losses = dict(zip(names, values, strict=True))
        self.losses_step = self.state.step
        broken = [name for name, value in self.losses.items() if not np.isfinite(value)]
        if broken:
            raise TrainingError(
                f"training diverged: the {' and '.join(broken)} loss is not a number at step {self.state.step}; "
                "train with --precision fp32 or another seed"
            )

    def _check_collapse(self) -> None:
        # not the first images: those by name may be copies of each other, as at the start of a video
        some = np.random.default_rng(self.training.seed).permutation(self.indices)[:COLLAPSE_IMAGES]
        pixels = next(self.images.training_batches(iter([some]), iter([[self.training.seed]])), None)
        if pixels is None:
            return
        with eval_mode(self.method):
            collapse = self.method.collapse(self._input(pixels), self._step())
        if collapse is not None:
            raise TrainingError(f"training has collapsed by step {self.state.step}: {collapse}")

    def _report(self, epoch: int) -> None:
        elapsed = time.perf_counter() - self.started
        done_here = self.state.step - self.first_step
        self.on_progress(
            TrainingProgress(
                step=self.state.step,
                steps=self.steps,
                epoch=epoch + 1,
                epochs=-(-self.steps // self.steps_per_epoch),
                losses=self.losses,
                losses_step=self.losses_step,
                images_per_second=done_here * self.batch_size / elapsed,
                seconds_left=self.time_left.after(self.state.step),
            )
        )

    def _seconds_of_whole_images(self) -> float:
        """What statistics and calibration are likely to take, from some predictions.

        Where images are squares and there are no statistics, it is little beside training, and counts nothing.
        """
        in_squares = self.preprocessing.scale is None
        if in_squares and self.method.statistics_images == 0:
            return 0.0
        return self.n_whole_images * seconds_of_a_prediction(
            self.method,
            self.images,
            self.indices,
            seed=self.training.seed,
            to_input=self._input_and_region,
            at_once=SQUARES_AT_ONCE if in_squares else 1,
        )

    def _save_if_due(self, losses: Mapping[str, torch.Tensor]) -> None:
        if self.checkpoint is None or self._seconds_since_saved() < self.training.checkpoint_seconds:
            return
        self._check_finite(losses)
        self._save()

    def _save(self) -> None:
        assert self.checkpoint is not None
        self._update_seconds()
        self.checkpoint.save(self.method, self.optimizers, self.state)
        self.last_saved = time.perf_counter()

    def _update_seconds(self) -> None:
        self.state.seconds = self.seconds_before + time.perf_counter() - self.started

    def _seconds_since_saved(self) -> float:
        return time.perf_counter() - self.last_saved
