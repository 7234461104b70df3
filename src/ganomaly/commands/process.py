"""How a command starts and ends: Ctrl-C, errors in one sentence, exit statuses."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, NoReturn

import typer

from ganomaly.commands.plain_help import PlainGroup
from ganomaly.errors import GANomalyError, package_needed, printable

UNREADABLE_IMAGES = 3
INTERRUPTED = 130  # what shells expect
SPINS = "2000"  # rounds of waiting, some microseconds, before a thread sleeps; the default is 300,000
AFTER_INTERRUPTION = {
    "benchmark": "finished rows are saved; the same command resumes with the next",
    "score": "no table or report was written; maps already written stay",
    "tune": "trials that are done are saved; the same command goes on",
    "fit-all": "models that are done are saved; the same command goes on",
    "demo": "files already written stay",
}


class InterruptionError(GANomalyError):
    """The user pressed Ctrl-C."""

    exit_status = INTERRUPTED


class CommandGroup(PlainGroup):
    """The commands; after Ctrl-C it says what was written, where Typer would exit silently."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            consequence = AFTER_INTERRUPTION.get(str(ctx.invoked_subcommand), "no output file was changed")
            raise InterruptionError(f"interrupted; {consequence}") from None


def run_app(app: typer.Typer) -> None:
    """Run the command line; the only place where errors become sentences and exit statuses."""
    debug = "--debug" in sys.argv
    # looking for plugins would read what packages are installed
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()  # a tenth of the time of imports, which leave no garbage; `heavy_imports` ends it
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a code page without φ must not lose the table
    try:
        app()
    except GANomalyError as error:
        _fail(str(error), error.exit_status, error if debug else None)
    except BrokenPipeError:
        # the reader of our output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except (
        OSError
    ) as error:  # of the system's temporary folder, say; what is written for the user has its own sentence
        where = "" if error.filename is None else f" ({error.filename})"
        _fail(f"the system reports: {error.strerror or error}{where}", 1, error if debug else None)
    except Exception as error:
        _fail(
            f"unexpected {type(error).__name__}: {error}; this is a bug in ganomaly, --debug shows where",
            1,
            error if debug else None,
        )
    finally:
        gc.enable()


@contextmanager
def heavy_imports(extra: str | None = None) -> Iterator[None]:
    """Import torch and the like in this block: Ctrl-C then ends the process at once, and a missing package is named.

    As a `KeyboardInterrupt`, Ctrl-C would sometimes be lost: some packages catch every exception of an import.

    PyTorch's threads are told to sleep soon while they wait for each other. By default they spin for long, and where
    another program uses the same processor, one then waits for another that cannot run. The environment's own choice
    is kept.

    Parameters
    ----------
    extra : str, optional
        What installs the packages that this command needs, as in `pip install 'ganomaly[serve]'`.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)  # GNU's OpenMP reads it when torch is imported
    handler = signal.getsignal(signal.SIGINT)
    with package_needed("this command", extra), _then_collecting():
        if handler is not signal.default_int_handler:  # the parent process handles Ctrl-C, or ignores it
            yield
            return
        signal.signal(signal.SIGINT, _exit_at_once)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, handler)


@contextmanager
def _then_collecting() -> Iterator[None]:
    try:
        yield
    finally:
        gc.enable()


def exit_if_unreadable(all_read: bool) -> None:
    """End with the exit status of unreadable images, unless all could be read."""
    if not all_read:
        raise typer.Exit(UNREADABLE_IMAGES)


def _exit_at_once(*_: object) -> NoReturn:
    os.write(2, b"ganomaly: interrupted before the work started\n")
    os._exit(INTERRUPTED)


def _fail(sentence: str, exit_status: int, error: BaseException | None = None) -> NoReturn:
    if error is not None:
        raise error
    print(f"ganomaly: {printable(sentence)}", file=sys.stderr)
    sys.exit(exit_status)
