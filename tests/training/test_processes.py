"""Which process this is follows from the environment; who watches the processes ends them all and says why."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ganomaly.commands.launch import fit_in_processes
from ganomaly.errors import OutputError, TrainingError, UsageError
from ganomaly.training.processes import LOST, Place, place_of_this_process, run_processes
from shell import ganomaly

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
SRUN = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2",
}


def test_torchrun_and_srun_say_which_process_this_is():
    assert place_of_this_process(TORCHRUN) == Place(3, 4, 1, 2)
    assert place_of_this_process(SRUN) == Place(3, 4, 1, 2, by_slurm=True)
    assert (
        place_of_this_process({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}) is None
    )  # a batch script without srun
    assert place_of_this_process(dict.fromkeys(TORCHRUN, "1")) is None  # one process is alone


def test_an_incomplete_environment_is_refused():
    with pytest.raises(UsageError, match=r"LOCAL_WORLD_SIZE is missing; torchrun and srun set it"):
        place_of_this_process({name: TORCHRUN[name] for name in list(TORCHRUN)[:3]})
    with pytest.raises(UsageError, match="4 tasks on 3 machines"):
        place_of_this_process(SRUN | {"SLURM_STEP_NUM_NODES": "3"})


def run(program: str) -> int:
    """Run a program in two processes; `rank` is which."""
    start = "import os, sys, time; rank = int(os.environ['RANK']); "
    return run_processes([sys.executable, "-c", start + program], devices=2)


def test_the_first_process_decides_the_exit_status():
    assert run("sys.exit(0)") == 0
    assert run("sys.exit(3 if rank == 0 else 0)") == 3
    assert run("sys.exit(2)") == 2


def test_who_lost_another_process_is_not_blamed_for_it():
    with pytest.raises(
        TrainingError, match=r"^process 2 of 2 failed with exit status 1 \(no space left\), so"
    ):
        run(f"print('ganomaly: no space left', file=sys.stderr); sys.exit({LOST} if rank == 0 else 1)")


def test_a_process_that_waits_for_a_killed_one_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr("ganomaly.training.processes._GRACE_SECONDS", 0.1)
    pid = tmp_path / "pid"
    with pytest.raises(TrainingError, match=r"^process 1 of 2 was killed by signal SIGKILL"):
        run(
            f"open({str(pid)!r}, 'w').write(str(os.getpid())) if rank else None; "
            f"time.sleep(0 if rank else .5); rank or os.kill(os.getpid(), 9); time.sleep(60)"
        )
    assert has_ended(int(pid.read_text()))


def test_processes_end_with_the_one_that_watches_them(tmp_path):
    child = (
        "import os, pathlib, time; from ganomaly.training.processes import end_with_parent; end_with_parent(); "
        f"pathlib.Path({str(tmp_path)!r}, os.environ['RANK']).write_text(str(os.getpid())); time.sleep(60)"
    )
    program = (
        "import sys; from ganomaly.training.processes import run_processes; "
        f"run_processes([sys.executable, '-c', {child!r}], devices=2)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    watcher = subprocess.Popen([sys.executable, "-c", program], env=environment)
    children = [tmp_path / rank for rank in "01"]
    wait_until(lambda: all(path.exists() and path.read_text() for path in children))
    watcher.send_signal(signal.SIGKILL)
    watcher.wait()
    wait_until(lambda: all(has_ended(int(path.read_text())) for path in children))


def test_several_machines_need_to_be_told_apart(tmp_path, normal_folder):
    done = ganomaly("fit", normal_folder, "--model", tmp_path / "m.safetensors", "--nodes", 2)
    assert done.returncode == 2
    assert "needs NODE_RANK and MASTER_ADDR and MASTER_PORT in the environment" in done.stderr


def test_two_machines_train_one_model_on_a_shared_disk(tmp_path, normal_folder):
    def start(model: Path, *options: object, **environment: str) -> subprocess.Popen[str]:
        fit = ["fit", normal_folder, "--model", model, "--preset", "paper", "--epochs", "1", *options]
        networks = ["--option", "ngf=4", "--option", "ndf=4", "--option", "nz=8"]
        return subprocess.Popen(
            [sys.executable, "-m", "ganomaly", *map(str, fit), *networks],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ
            | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1"}
            | environment,
        )

    shared, alone = tmp_path / "shared.safetensors", tmp_path / "alone.safetensors"
    environment = {"MASTER_PORT": str(free_port())}
    machines = [start(shared, "--nodes", 2, "--devices", 1, NODE_RANK=rank, **environment) for rank in "01"]
    said = [machine.communicate(timeout=180)[1] for machine in machines]
    assert [machine.returncode for machine in machines] == [0, 0], said
    assert said[1] == ""
    one_machine = start(alone, "--devices", 2)
    assert one_machine.communicate(timeout=180)[1]
    weights, expected = load_file(shared), load_file(alone)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert {path.name for path in tmp_path.glob("*.safetensors*")} == {shared.name, alone.name}


def test_only_the_first_machine_needs_the_folder_of_the_model(tmp_path, monkeypatch):
    monkeypatch.setattr("ganomaly.commands.launch.run_processes", lambda *_, **__: 0)
    for name, value in {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500", "NODE_RANK": "1"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").touch()
    model = tmp_path / "file" / "m.safetensors"  # where no folder can be
    assert fit_in_processes(model, devices=1, nodes=2, resume=True) == 0
    monkeypatch.setenv("NODE_RANK", "0")
    with pytest.raises(OutputError, match="cannot lock"):
        fit_in_processes(model, devices=1, nodes=2, resume=True)


def test_other_numbers_than_torchrun_started_are_refused(tmp_path, normal_folder, monkeypatch):
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    done = ganomaly("fit", normal_folder, "--model", tmp_path / "m.safetensors", "--devices", 3)
    assert done.returncode == 2
    assert "--devices 3 and --nodes 2 were asked for, but 4 processes were started" in done.stderr


def test_ctrl_c_ends_all_processes_of_fit_with_one_sentence(tmp_path, normal_folder):
    model = tmp_path / "m.safetensors"
    options = ["--preset", "paper", "--epochs", "100000", "--option", "ngf=4", "--option", "ndf=4"]
    command = [
        sys.executable,
        "-m",
        "ganomaly",
        "fit",
        normal_folder,
        "--model",
        model,
        *options,
        "--devices",
        "2",
    ]
    log = tmp_path / "log"
    with log.open("w") as file:
        fit = subprocess.Popen(
            command,
            stderr=file,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
            preexec_fn=_heed_interrupts,  # noqa: PLW1509 - it takes no lock
        )
        wait_until(lambda: "step 2 of" in log.read_text())
        children = [int(pid) for pid in Path(f"/proc/{fit.pid}/task/{fit.pid}/children").read_text().split()]
        fit.send_signal(signal.SIGINT)
        assert fit.wait(180) == 130
    assert len(children) == 2
    assert all(map(has_ended, children))
    lines = [line for line in log.read_text().splitlines() if line.startswith("ganomaly: ")]
    assert lines == ["ganomaly: interrupted; no model was written; the same command starts anew"]
    assert not model.exists()


def _heed_interrupts() -> None:
    """Who runs tests in the background of a shell ignores Ctrl-C, and so would a new process."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def has_ended(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    # whoever inherits a process whose parent was killed collects it when it likes
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def wait_until(condition, seconds: float = 60) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never came"
        time.sleep(0.05)
