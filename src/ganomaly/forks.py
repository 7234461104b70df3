"""Refusal to compute in a process that was forked from one that computes: a fork does not copy its threads."""

import os

from ganomaly.errors import UsageError


class RuntimeThreads:
    """The threads of a runtime, and the process in which they run; a fork copies this note, but no thread.

    A forked process would wait for them: PyTorch forever at once, ONNX Runtime and OpenVINO now and then, where the
    fork met a thread that held a lock.
    """

    def __init__(self, runtime: str) -> None:
        self.runtime = runtime
        self._process: int | None = None

    def start(self) -> None:
        """Note that threads of the runtime run in this process.

        Raises
        ------
        UsageError
            As `check`.
        """
        self.check()
        self._process = os.getpid()

    def check(self) -> None:
        """Refuse where the threads run in another process.

        Raises
        ------
        UsageError
            If this process was forked from one in which the threads run.
        """
        if self._process not in (None, os.getpid()):
            raise UsageError(
                f"this process was forked from one in which {self.runtime} computes, whose threads a fork does not "
                "copy, so it could wait for them forever; start processes with "
                'multiprocessing.get_context("spawn"), and load the model in them'
            )
