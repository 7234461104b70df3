"""The processes of a training on several devices: where this one stands, how they are started and watched.

Each process runs the same command. `torchrun` and SLURM's `srun` start them and say in the environment which one each
is; without them `run_processes` does, with the same variables. Nothing here imports PyTorch, which who watches does
not need.
"""

import contextlib
import os
import signal
import socket
import subprocess  # nosec B404
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO

from ganomaly.data.resources import usable_processors
from ganomaly.errors import TrainingError, UsageError

LOST = 75  # exit status of a process that lost another one, and leaves it to who watches to say which
_WATCHED = "GANOMALY_WATCHED"
_POLL_SECONDS = 0.05
_GRACE_SECONDS = 5.0  # for a process to say by itself why it ends
_LEAVE_SECONDS = 2.0  # for the first process to say that it was interrupted
_INTERRUPT_SECONDS = 60.0  # for it to end then
_MOST_QUOTED = 2000  # characters at the end of what a process wrote


@dataclass(frozen=True)
class Place:
    """Where a process stands among those that train together.

    Attributes
    ----------
    rank, number : int
        Which process this is, from 0, and how many there are on all machines.
    local_rank, local_number : int
        The same on this machine.
    by_slurm : bool
        Whether `srun` started it.
    """

    rank: int
    number: int
    local_rank: int
    local_number: int
    by_slurm: bool = False


def place_of_this_process(environment: Mapping[str, str] = os.environ) -> Place | None:
    """What `torchrun`, `srun` or `run_processes` say in the environment; None for a process that is alone.

    Raises
    ------
    UsageError
        If a variable is missing or no number.
    """
    if "RANK" in environment and "WORLD_SIZE" in environment:
        place = Place(
            _number(environment, "RANK"),
            _number(environment, "WORLD_SIZE"),
            _number(environment, "LOCAL_RANK"),
            _number(environment, "LOCAL_WORLD_SIZE"),
        )
    elif "SLURM_STEP_NUM_TASKS" in environment:  # of srun; a batch script has SLURM_PROCID too
        number, nodes = (_number(environment, f"SLURM_STEP_NUM_{what}") for what in ("TASKS", "NODES"))
        place = Place(
            _number(environment, "SLURM_PROCID"),
            number,
            _number(environment, "SLURM_LOCALID"),
            number // max(1, nodes),
            by_slurm=True,
        )
        if place.local_number * nodes != number:
            raise UsageError(
                f"srun started {number} tasks on {nodes} machines; start as many on each of them"
            )
    else:
        return None
    return place if place.number > 1 else None


def is_watched(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `run_processes` started this process, and will say which of them failed."""
    return _WATCHED in environment


def end_with_parent() -> None:
    """End this process when the one that watches it has ended, however that was; for those of `run_processes`."""

    def wait() -> None:
        with contextlib.suppress(OSError):
            while os.read(0, 1):
                pass
        os._exit(LOST)  # the main thread may wait for another process inside of PyTorch

    threading.Thread(target=wait, daemon=True).start()


def run_processes(
    command: Sequence[str],
    *,
    devices: int,
    nodes: int = 1,
    environment: Mapping[str, str] = MappingProxyType({}),
    consequence: str = "resumes from the last checkpoint",
) -> int:
    """Run a command in a process for each device of this machine, and watch them.

    The first process of all speaks for all; what others write is shown only if they fail.

    Parameters
    ----------
    command : sequence of str
        Program and arguments.
    devices, nodes : int
        Processes on each machine, and machines. With several machines the environment says which one this is.
    environment : mapping of str to str
        Variables of the processes beside those of this one.
    consequence : str
        What the same command will do next, for the message.

    Returns
    -------
    int
        The exit status of the first process, where that has spoken.

    Raises
    ------
    TrainingError
        If a process ends without a word: it was killed, or it failed alone. The others are ended first.
    """
    first, number = number_of_this_machine(nodes) * devices, nodes * devices
    shared = {
        **os.environ,
        **environment,
        "MASTER_ADDR": os.environ.get("MASTER_ADDR", "127.0.0.1") if nodes > 1 else "127.0.0.1",
        "MASTER_PORT": os.environ["MASTER_PORT"] if nodes > 1 else str(_free_port()),
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(devices),
        _WATCHED: "1",
    }
    shared.setdefault("OMP_NUM_THREADS", str(max(1, usable_processors() // devices)))
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(_process(command, shared, first + local, local)) for local in range(devices)
        ]
        try:
            _wait(processes)
        except KeyboardInterrupt:
            status = _interrupted(processes)
            if status is None:
                raise
            return status
        return _outcome(processes, number, consequence)


@dataclass
class _Process:
    rank: int
    process: subprocess.Popen[bytes]
    words: (
        IO[bytes] | None
    )  # what it wrote to standard error; None for the first of all, who writes to the user

    @property
    def status(self) -> int | None:
        return self.process.poll()

    def last_words(self) -> str:
        if self.words is None:
            return ""
        self.words.seek(0)
        lines = self.words.read()[-_MOST_QUOTED:].decode(errors="replace").split("\n")
        said = [line.removeprefix("ganomaly: ") for line in lines if line.startswith("ganomaly: ")]
        return said[-1] if said else ""


@contextlib.contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], rank: int, local_rank: int
) -> Iterator[_Process]:
    place = {"RANK": str(rank), "LOCAL_RANK": str(local_rank)}
    words = None if rank == 0 else tempfile.TemporaryFile()  # noqa: SIM115 - closed below
    process = subprocess.Popen(  # nosec B603
        list(command),
        env={**environment, **place},
        stdin=subprocess.PIPE,  # its end tells that this process has ended
        stdout=None if rank == 0 else subprocess.DEVNULL,
        stderr=words,
        start_new_session=True,  # Ctrl-C reaches this process alone, which passes it on
    )
    try:
        yield _Process(rank, process, words)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        if words is not None:
            words.close()


def _wait(processes: Sequence[_Process]) -> None:
    """Wait until all have ended, or one has failed and had time to say why."""
    while True:
        statuses = [process.status for process in processes]
        if None not in statuses:
            return
        if any(status not in {None, 0} for status in statuses) or _first_is_done(processes):
            break
        time.sleep(_POLL_SECONDS)
    deadline = time.monotonic() + _GRACE_SECONDS
    while time.monotonic() < deadline and any(process.status is None for process in processes):
        time.sleep(_POLL_SECONDS)


def _first_is_done(processes: Sequence[_Process]) -> bool:
    return processes[0].rank == 0 and processes[0].status is not None


def _outcome(processes: Sequence[_Process], number: int, consequence: str) -> int:
    """The exit status, or `TrainingError`."""
    first = processes[0]
    statuses = {process.rank: process.status for process in processes}
    if first.rank == 0 and first.status is not None and first.status not in {LOST} and first.status >= 0:
        return first.status
    if all(status == 0 for status in statuses.values()):  # of a machine that the first process is not on
        return 0
    # who lost another one is not to blame, nor who still waits for it
    failed = [process for process in processes if process.status not in {None, 0, LOST}]
    if not failed:
        raise TrainingError(f"a process on another machine ended; the same command {consequence}")
    process = min(failed, key=lambda failed: failed.status or 0)  # those that were killed first
    raise TrainingError(
        f"process {process.rank + 1} of {number} {_end_in_words(process)}, so the others were ended; "
        f"the same command {consequence}"
    )


def _end_in_words(process: _Process) -> str:
    status, words = process.status or 0, process.last_words()
    if status < 0:
        return f"was killed by signal {signal.Signals(-status).name}"
    return f"failed with exit status {status}" + (f" ({words})" if words else "")


def _interrupted(processes: Sequence[_Process]) -> int | None:
    """Pass Ctrl-C on to the first process, which says what it means; None if it did not."""
    first, *others = processes
    if first.rank != 0:
        return None
    with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):  # pressed again: at once
        first.process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            first.process.wait(_LEAVE_SECONDS)
        for other in others:
            other.process.kill()  # the first may wait for them on its way out
        status = first.process.wait(_INTERRUPT_SECONDS)
        return status if status > 0 and status != LOST else None
    return None


def number_of_this_machine(nodes: int) -> int:
    """Which of the machines this is, from 0, as `NODE_RANK` says.

    Raises
    ------
    UsageError
        If a variable that several machines need is missing, or `NODE_RANK` is not one of them.
    """
    if nodes == 1:
        return 0
    missing = [name for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if missing:
        raise UsageError(
            f"training on {nodes} machines needs {' and '.join(missing)} in the environment: run the command on each "
            "machine with NODE_RANK from 0, and address and a free port of the first machine; or start it with "
            "torchrun or srun"
        )
    machine = _number(os.environ, "NODE_RANK")
    if machine >= nodes:
        raise UsageError(f"NODE_RANK is {machine}, but there are {nodes} machines; they count from 0")
    return machine


def _number(environment: Mapping[str, str], name: str) -> int:
    text = environment.get(name, "")
    if not text.isdecimal():
        raise UsageError(
            f"the environment variable {name} is {text or 'missing'}; torchrun and srun set it to a whole number"
        )
    return int(text)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
