"""The command line in tests: as a process of its own, or quicker in this one."""

import contextlib
import io
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: str
    stderr: str


def ganomaly_process(*arguments: object, **options) -> Done:
    """Run `ganomaly` in a process of its own."""
    command = [sys.executable, "-m", "ganomaly", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    return Done(done.returncode, done.stdout, done.stderr)


def ganomaly(*arguments: object) -> Done:
    """Run `ganomaly` in this process, from the same entry point."""
    from ganomaly.cli import main

    out, err = io.StringIO(), io.StringIO()
    code: object = 0
    with (
        mock.patch.object(sys, "argv", ["ganomaly", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            main()
        except SystemExit as leaving:
            code = leaving.code or 0
    assert isinstance(code, int), code
    return Done(code, out.getvalue(), err.getvalue())
