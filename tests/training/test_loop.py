"""Training repeats, survives a kill, and says early when it goes wrong."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from ganomaly.config import MethodOptions, Preprocessing, TrainingOptions
from ganomaly.errors import TrainingError
from ganomaly.methods.ganomaly import GANomaly, GANomalyOptions
from ganomaly.tensors import network_input
from ganomaly.training.loop import CHECK_INTERVAL, MAX_RECOVERIES, SQUARES_AT_ONCE, train
from ganomaly.training.observers import TrainingProgress
from ganomaly.training.statistics import STATISTICS_COST
from images import load_images

OPTIONS = GANomalyOptions(nz=8, ngf=4, ndf=4)
PREPROCESSING = Preprocessing(image_size=32, channels=1)


def run(
    images, *, method=GANomaly, epochs=2, seed=0, options: MethodOptions = OPTIONS, precision="fp32", **more
):
    loader = load_images(images)
    training = TrainingOptions(
        epochs=epochs, seed=seed, batch_size=8, precision=precision, checkpoint_seconds=0
    )
    return train(method, options, PREPROCESSING, loader, loader.usable, training, **more)


def weights(result) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in result.method.state_dict().items()}


def assert_equal_weights(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> None:
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), f"{name} differs"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_gives_the_same_weights_bit_for_bit(normal_images, precision):
    first = weights(run(normal_images, seed=4, precision=precision))
    assert_equal_weights(first, weights(run(normal_images, seed=4, precision=precision)))
    other = weights(run(normal_images, seed=5, precision=precision))
    assert any(not torch.equal(first[name], other[name]) for name in first)


class StopError(Exception):
    """Ends a run from inside."""


@pytest.mark.parametrize("stop_at", [1, 6, 7, 8, 13])
def test_a_run_stopped_at_any_step_ends_with_the_weights_of_an_uninterrupted_one(
    normal_images, tmp_path, stop_at
):
    """60 images in batches of 8 are 7 steps an epoch: stops at the first step, around the end of an epoch, later."""
    checkpoint = tmp_path / "run.checkpoint"

    def stop(progress: TrainingProgress) -> None:
        if progress.step == stop_at:
            raise StopError

    with pytest.raises(StopError):
        run(normal_images, checkpoint=checkpoint, on_progress=stop)
    steps: list[int] = []
    resumed = run(
        normal_images, checkpoint=checkpoint, on_progress=lambda progress: steps.append(progress.step)
    )
    assert steps[-1] == 14
    assert steps[0] == stop_at  # the checkpoint is from the step before
    assert_equal_weights(weights(resumed), weights(run(normal_images)))


KILLED_RUN = """
import sys, numpy as np
from pathlib import Path
from ganomaly.tensor_files import write_safetensors
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]).parent)]
from test_loop import run
result = run(np.load(sys.argv[2]), epochs=6, checkpoint=Path(sys.argv[3]))
write_safetensors(sys.argv[4], result.method.state_dict(), {})
"""


def test_training_killed_with_sigkill_again_and_again_ends_with_the_same_weights(normal_images, tmp_path):
    np.save(tmp_path / "images.npy", normal_images)

    def start(checkpoint: str, out: str) -> subprocess.Popen[bytes]:
        paths = [Path(__file__).parent, *(tmp_path / name for name in ("images.npy", checkpoint, out))]
        return subprocess.Popen(
            [sys.executable, "-c", KILLED_RUN, *map(str, paths)], env=os.environ | {"OMP_NUM_THREADS": "1"}
        )

    assert start("whole.checkpoint", "whole.safetensors").wait() == 0
    checkpoint = tmp_path / "killed.checkpoint"
    for _ in range(2):
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = start("killed.checkpoint", "killed.safetensors")
        while process.poll() is None and (not checkpoint.exists() or checkpoint.stat().st_mtime_ns == before):
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed.safetensors").exists(), (
        "the run ended before it was killed: make it longer"
    )
    assert start("killed.checkpoint", "killed.safetensors").wait() == 0
    assert_equal_weights(
        load_file(tmp_path / "whole.safetensors"), load_file(tmp_path / "killed.safetensors")
    )


def test_a_checkpoint_of_another_run_is_refused_with_what_differs(normal_images, tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    run(normal_images, checkpoint=checkpoint, seed=1)
    with pytest.raises(TrainingError, match=r"belongs to a run with other training \(seed\); .*--no-resume"):
        run(normal_images, checkpoint=checkpoint, seed=2)
    with pytest.raises(TrainingError, match="other data"):
        run(normal_images, checkpoint=checkpoint, seed=1, fingerprint="other images")


def test_a_damaged_checkpoint_is_refused_and_can_be_replaced(normal_images, tmp_path):
    checkpoint = tmp_path / "run.checkpoint"
    run(normal_images, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:-100])
    with pytest.raises(TrainingError, match=r"is damaged; start anew with --no-resume"):
        run(normal_images, checkpoint=checkpoint)
    run(normal_images, checkpoint=checkpoint, resume=False)


def test_nan_is_said_with_the_loss_and_the_step(normal_images):
    with pytest.raises(TrainingError, match=r"diverged: the .*generator.* loss is not a number at step \d+"):
        run(normal_images, options=OPTIONS.model_copy(update={"learning_rate": 1e30}), epochs=10)


class ConstantLatent(GANomaly):
    """Its encoder sees nothing."""

    def training_step(self, x, optimizers, precision, step):
        losses = super().training_step(x, optimizers, precision, step)
        self.encoder.latent.weight.data.zero_()
        return losses


def test_a_constant_latent_is_said_after_the_first_epoch(normal_images):
    with pytest.raises(TrainingError, match=r"collapsed by step 7: all images have the same latent"):
        run(normal_images, method=ConstantLatent, epochs=50)


def test_copies_that_come_first_are_no_collapse(normal_images):
    """As where a video begins, or a volume ends."""
    copies = np.repeat(normal_images[:1], 70, axis=0)
    assert run(np.concatenate([copies, normal_images]), epochs=1).method is not None


class DeadDiscriminator(GANomaly):
    """Its discriminator's loss is 0, however often its weights are drawn."""

    def training_step(self, x, optimizers, precision, step):
        losses = super().training_step(x, optimizers, precision, step)
        return losses | {"discriminator": losses["discriminator"] * 0}


def test_a_discriminator_that_stays_at_0_is_said(normal_images):
    steps_needed = CHECK_INTERVAL * MAX_RECOVERIES
    with pytest.raises(TrainingError, match=rf"collapsed: the discriminator.* up to step {steps_needed}"):
        run(normal_images, method=DeadDiscriminator, epochs=steps_needed)


def test_a_recovered_discriminator_is_reported_and_training_goes_on(normal_images):
    class DiesOnce(GANomaly):
        steps = 0

        def training_step(self, x, optimizers, precision, step):
            DiesOnce.steps += 1
            losses = super().training_step(x, optimizers, precision, step)
            return losses | {
                "discriminator": losses["discriminator"] * float(DiesOnce.steps != CHECK_INTERVAL)
            }

    result = run(normal_images, method=DiesOnce, epochs=5)
    assert len(result.messages) == 1
    assert result.messages[0].startswith(f"step {CHECK_INTERVAL}: the discriminator's loss was 0;")


def test_fewer_images_than_a_batch_make_one_batch(normal_images):
    steps: list[TrainingProgress] = []
    run(normal_images[:5], on_progress=steps.append)
    assert [progress.step for progress in steps] == [1, 2]


def test_progress_tells_losses_speed_and_time_left(normal_images):
    seen: list[TrainingProgress] = []
    run(normal_images, epochs=5, on_progress=seen.append)
    last = seen[-1]
    assert (last.step, last.steps, last.epoch, last.epochs) == (35, 35, 5, 5)
    assert last.seconds_left == 0
    assert last.images_per_second > 0
    assert {"contextual", "adversarial", "encoder", "discriminator"} <= last.losses.keys()


@pytest.mark.parametrize("with_statistics", [True, False])
def test_the_time_left_counts_what_follows_training(normal_images, monkeypatch, with_statistics):
    monkeypatch.setattr("ganomaly.training.time_left.SHORT_TRAINING", 0)
    monkeypatch.setattr(
        "ganomaly.training.loop.seconds_of_a_prediction", lambda *_, at_once, **__: 1 / at_once
    )
    seen: list[TrainingProgress] = []
    method = Remembering if with_statistics else GANomaly
    run(normal_images, method=method, epochs=5, on_progress=seen.append)
    expected = STATISTICS_COST * min(method.statistics_images, len(normal_images)) / SQUARES_AT_ONCE
    assert seen[-1].seconds_left == pytest.approx(expected)


class Remembering(GANomaly):
    """Keeps what it is shown after training."""

    statistics_images = 20

    def fit_statistics(self, batches):
        assert not self.training
        assert not torch.is_grad_enabled()
        self.seen = torch.cat(list(batches))


def test_after_training_a_method_learns_what_is_normal_from_training_images(normal_images):
    loader = load_images(normal_images)
    chosen = loader.usable[:30]
    training = TrainingOptions(epochs=1, batch_size=8)
    seen = [
        train(Remembering, OPTIONS, PREPROCESSING, loader, chosen, training).method.seen for _ in range(2)
    ]
    assert torch.equal(seen[0], seen[1])
    assert len(seen[0]) == 20
    pixels = np.concatenate(list(loader.batches(iter([chosen]))))
    known = {x.numpy().tobytes() for x in network_input(pixels, 255, torch.device("cpu"))}
    assert {x.numpy().tobytes() for x in seen[0]} <= known


def test_a_resumed_run_learns_what_is_normal_from_the_same_images(normal_images, tmp_path):
    def stop(progress: TrainingProgress) -> None:
        if progress.step == 9:
            raise StopError

    with pytest.raises(StopError):
        run(normal_images, method=Remembering, checkpoint=tmp_path / "run", on_progress=stop)
    resumed = run(normal_images, method=Remembering, checkpoint=tmp_path / "run")
    assert torch.equal(resumed.method.seen, run(normal_images, method=Remembering).method.seen)
