"""What the program says beside its results, and what it does when nobody reads its output."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from pathlib import Path
from typing import IO, Any, NoReturn

from mlfsic_bench.cli.echo import echo
from mlfsic_bench.errors import BenchError
from mlfsic_bench.paths import cannot_use, reason
from mlfsic_bench.progress import LOG, is_quiet
from mlfsic_bench.signals import exit_code, ignore_signals, undisturbed
from mlfsic_bench.text import lines_for_terminal


def say(line: str) -> None:
    """Print a line of progress or a note to standard error; with -q nothing."""
    if not is_quiet():
        say_always(line)


def say_always(line: str) -> None:
    """Print a line to standard error, with -q too: an error, a warning; a long one is cut.

    Where it can't be printed, since the reader of a pipe is gone or the disk of a log file is
    full, the work goes on in silence: a run of hours must not end because of it.
    """
    try:
        echo(lines_for_terminal(line), err=True)
    except OSError:
        _give_up(sys.stderr)


class _ToTerminal(logging.Handler):
    """Prints what deep code logs, as `say` does."""

    def emit(self, record: logging.LogRecord) -> None:
        say(record.getMessage())


def set_verbosity(level: int) -> None:
    """How much is said: `logging.WARNING` for -q, `INFO`, or `DEBUG` for -v."""
    if not any(isinstance(handler, _ToTerminal) for handler in LOG.handlers):
        LOG.addHandler(_ToTerminal())
    LOG.setLevel(level)


def leave(stop: KeyboardInterrupt, line: str) -> NoReturn:
    """Say that the work was stopped and exit as a shell expects; another Ctrl-C changes nothing."""
    with undisturbed():
        say_always(line)
        atexit.register(ignore_signals)  # the process still takes a moment to end
        sys.exit(exit_code(stop))


def open_missing() -> None:
    """Open the standard streams that the caller has closed (`>&-`) to nowhere.

    The next file that is opened would get such a stream's number, and what is printed.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one


def refuse_lost_folder() -> None:
    """BenchError when the folder the program was started in is no longer there.

    Relative paths lead nowhere then, and libraries that are loaded later end the process.
    """
    try:
        Path.cwd()
    except OSError as error:
        raise BenchError(
            "the current folder can't be used",
            expected="a folder that is there",
            found=reason(error),
            remedy="change to another folder (cd)",
        ) from error


def system_error(error: OSError) -> BenchError:
    """The error for what the system refused where nobody expected it.

    Without a file's name it is a stream that can't be written: standard output. What it still
    holds is then thrown away, or the end of the program would fail by it once more.
    """
    if error.filename is not None:
        name = error.filename
        return cannot_use(os.fsdecode(name) if isinstance(name, bytes) else str(name), error)
    _give_up(sys.stdout)
    return BenchError(
        "cannot write the output",
        expected="a terminal, a file or a pipe that takes it",
        found=f"{error.strerror or error} (errno {error.errno})",
        remedy="free some space, or send the output elsewhere",
    )


def _give_up(stream: IO[Any] | None) -> None:
    """Send what a stream holds, and all that follows, nowhere."""
    if stream is None:
        return
    try:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
    except (OSError, ValueError):  # a stream without a number, as in tests
        pass
