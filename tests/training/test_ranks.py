"""Several processes train the weights that one trains, and go on after any of them was killed."""

import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ganomaly.errors import TrainingError, UsageError
from ganomaly.methods import METHODS, find_preset
from ganomaly.prediction.pytorch import eval_mode
from ganomaly.training.checkpoint import recorded_precision
from ganomaly.training.observers import TrainingProgress
from ganomaly.training.ranks import RankLostError, Ranks
from training_in_processes import (
    NUMBER,
    PATCH,
    measured,
    other_precision,
    run_presets,
    train_preset,
    weights_of,
)

PRESETS = [
    "paper",
    "egbad",
    "vae streamed",
    "skip-ganomaly",
    "anogan",
    "f-anogan",
    "small",
    "small-features",
    "patches streamed",
    "features",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what two processes trained; all presets in one go."""
    folder = tmp_path_factory.mktemp("together")
    assert run_presets(folder, ",".join([*PRESETS, "paper measured"])) == 0
    return folder


@pytest.fixture(scope="module")
def together(trained: Path) -> Callable[[str], list[dict[str, Tensor]]]:
    """What each process has after it trained a preset with the others."""
    return lambda preset: [load_file(trained / f"{preset} {rank}.safetensors") for rank in range(NUMBER)]


def test_every_preset_is_compared():
    presets = {name for method in METHODS.values() for name in method.presets}
    assert {preset.split()[0] for preset in PRESETS} == presets


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_train_the_weights_and_scores_of_one(preset, together):
    name = preset.split()[0]
    alone = train_preset(name, Ranks())
    expected = weights_of(alone)
    first, second = together(preset)
    trained = [parameter for parameter, value in alone.method.named_parameters() if value.requires_grad]
    for parameter in trained:
        assert torch.equal(first[parameter], second[parameter]), parameter
        # Adam makes a whole step of a gradient that is rounding alone, so single weights may differ by more; biases
        # begin at 0, and are small after a few steps
        difference = (first[parameter] - expected[parameter]).norm()
        bound = 1e-3 * expected[parameter].norm() + 1e-5 * expected[parameter].numel() ** 0.5
        assert difference <= bound, parameter
    statistics = [key for key in expected if key.endswith(("running_mean", "running_var"))]
    for key in statistics:
        torch.testing.assert_close(first[key], expected[key], rtol=1e-3, atol=1e-5)

    side = 32 if find_preset(name)[1].patches is None else PATCH
    x = torch.rand(4, 1, side, side)
    with eval_mode(alone.method):
        score = alone.method.predict(x).score
        alone.method.load_state_dict(first)
        torch.testing.assert_close(alone.method.predict(x).score, score, rtol=1e-2, atol=1e-4)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two processes, of which one was killed."""
    folder = tmp_path_factory.mktemp("killed")
    with pytest.raises(
        TrainingError, match=r"^process 2 of 2 was killed by signal SIGKILL, so the others were"
    ):
        run_presets(folder, "paper", killed=1, at_step=3)
    return folder / "paper.checkpoint"


def test_a_killed_process_ends_all_with_one_sentence_and_the_run_goes_on_to_the_same_weights(
    together, checkpoint, tmp_path
):
    shutil.copy(checkpoint, tmp_path)
    assert run_presets(tmp_path, "paper") == 0
    resumed, whole = load_file(tmp_path / "paper 0.safetensors"), together("paper")[0]
    assert all(torch.equal(resumed[name], whole[name]) for name in whole)


def test_a_run_goes_on_in_another_number_of_processes_to_the_same_weights_up_to_rounding(
    together, checkpoint, tmp_path
):
    own = Path(shutil.copy(checkpoint, tmp_path))
    seen: list[int] = []

    def stop(progress: TrainingProgress) -> None:
        seen.append(progress.step)
        if progress.step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_preset("paper", Ranks(), checkpoint=own, on_progress=stop)
    assert seen[0] > 1  # it went on
    (tmp_path / "two").mkdir()
    shutil.copy(own, tmp_path / "two")
    one = weights_of(train_preset("paper", Ranks(), checkpoint=own))
    assert run_presets(tmp_path / "two", "paper") == 0
    two, whole = load_file(tmp_path / "two" / "paper 0.safetensors"), together("paper")[0]
    for name, expected in whole.items():
        for resumed in (one, two):
            difference = (resumed[name] - expected).double().norm()
            assert difference <= 1e-3 * expected.double().norm(), name


def test_all_processes_train_in_the_precision_that_the_first_measured(trained, together):
    assert recorded_precision(trained / "paper measured.checkpoint") == other_precision()
    first, second = together("paper measured")
    assert all(torch.equal(first[name], second[name]) for name in first)
    in_fp32, is_fp32 = together("paper")[0], other_precision() == "fp32"
    assert all(torch.equal(first[name], in_fp32[name]) for name in first) == is_fp32


def test_a_run_goes_on_in_several_processes_in_the_precision_that_one_measured(tmp_path):
    path = tmp_path / "paper auto.checkpoint"

    def stop(progress: TrainingProgress) -> None:
        if progress.step == 3:
            raise KeyboardInterrupt

    with measured(other_precision()), pytest.raises(KeyboardInterrupt):
        train_preset("paper", Ranks(), checkpoint=path, on_progress=stop, precision="auto")
    assert run_presets(tmp_path, "paper auto") == 0
    assert recorded_precision(path) == other_precision()


def test_more_processes_than_images_of_a_batch_are_refused():
    with pytest.raises(UsageError, match=r"8 processes share the 7 images of a batch; use 7 devices at most"):
        train_preset("paper", Ranks(0, 8))


@pytest.mark.parametrize("n", [3, 7, 8])
def test_each_row_is_of_one_process(n):
    rows = [list(range(n))[Ranks(rank, 3).rows(n)] for rank in range(3)]
    assert sum(rows, []) == list(range(n))  # noqa: RUF017 - three short lists
    assert max(map(len, rows)) - min(map(len, rows)) <= 1


def test_a_process_that_works_for_its_machine_says_so_until_all_have_done(monkeypatch):
    words = []

    def all_agree(ranks: Ranks, is_so: bool) -> bool:
        words.append(is_so)
        return is_so and words.count(True) > 1  # another process takes longer

    monkeypatch.setattr("ganomaly.training.ranks._TOUCH_SECONDS", 0.01)
    monkeypatch.setattr(Ranks, "all_agree", all_agree)
    monkeypatch.setattr(Ranks, "gather_bytes", lambda ranks, content: [b"other", content])

    def make(check: Callable[[], None]) -> bytes:
        while len(words) < 3:
            check()
            time.sleep(0.01)
        return b"made"

    assert Ranks(1, 2, 0, 1).from_each_machine(make) == [b"other", b"made"]
    assert words[:3] == [False] * 3
    assert words[-2:] == [True] * 2
    assert Ranks(1, 2, 1, 2).from_each_machine(make) == [b"other"]


def test_what_goes_wrong_in_such_work_ends_it(monkeypatch):
    words = []

    def all_agree(ranks: Ranks, is_so: bool) -> bool:
        words.append(is_so)
        return len(words) > 100

    def make(check: Callable[[], None]) -> bytes:
        raise TrainingError("no room")

    monkeypatch.setattr(Ranks, "all_agree", all_agree)
    with pytest.raises(TrainingError, match="no room"):
        Ranks(0, 2, 0, 2).from_each_machine(make)
    assert len(words) <= 1


def test_such_work_ends_when_another_process_has(monkeypatch):
    def all_agree(ranks: Ranks, is_so: bool) -> bool:
        raise RankLostError("lost")

    def make(check: Callable[[], None]) -> bytes:
        for _ in range(1000):
            check()
            time.sleep(0.01)
        raise AssertionError("nobody said that the other process has ended")

    monkeypatch.setattr("ganomaly.training.ranks._TOUCH_SECONDS", 0.01)
    monkeypatch.setattr(Ranks, "all_agree", all_agree)
    with pytest.raises(RankLostError):
        Ranks(0, 2, 0, 2).from_each_machine(make)
