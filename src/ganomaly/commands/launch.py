"""`ganomaly fit --devices N --nodes M`: which process this is, or the start of all of them. Imports no PyTorch."""

import sys
from contextlib import nullcontext

from ganomaly.errors import UsageError
from ganomaly.locks import locked_file
from ganomaly.remote import Location
from ganomaly.training.processes import (
    Place,
    end_with_parent,
    is_watched,
    number_of_this_machine,
    place_of_this_process,
    run_processes,
)


def find_place(devices: int | None, nodes: int | None) -> Place | None:
    """Where this process stands among those that train together; None if it is alone, so far.

    Raises
    ------
    UsageError
        If others than the asked number of processes were started.
    """
    place = place_of_this_process()
    if place is None:
        return None
    n_nodes = place.number // place.local_number
    asked = devices or place.local_number, nodes or n_nodes
    if asked != (place.local_number, n_nodes):
        raise UsageError(
            f"--devices {asked[0]} and --nodes {asked[1]} were asked for, but {place.number} processes were started, "
            f"{place.local_number} on each machine; leave both options out under torchrun and srun"
        )
    if is_watched():
        end_with_parent()
    return place


def fit_in_processes(model: Location, *, devices: int, nodes: int, resume: bool) -> int:
    """Run the command of this process in one for each device, and return the exit status.

    Raises
    ------
    UsageError
        If a living process writes the model, or the environment does not say which machine this is.
    OutputError
        If the model cannot be locked.
    TrainingError
        If a process ends without a word.
    """
    consequence = "resumes from the last checkpoint" if resume else "starts anew"
    # only the first machine writes; the others may not even have the folder
    writes = number_of_this_machine(nodes) == 0
    with locked_file(model, "ganomaly fit") if writes else nullcontext():
        command = [sys.executable, "-m", "ganomaly", *sys.argv[1:]]
        return run_processes(command, devices=devices, nodes=nodes, consequence=consequence)
