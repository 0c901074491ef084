"""The program `mlfsic-bench`: finds the command, imports only what that command needs.

Exit codes, of every command: 0 done; 1 a difference was found or something failed (an audit, a
check, a run of an experiment); 2 bad input, or a refusal of the system; 128 + the number of the
signal that stopped it (130 Ctrl-C, 143 SIGTERM, 129 SIGHUP). docs/running.md lists them.
"""

from __future__ import annotations

import atexit
import importlib
import logging
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from typing import Any

import click

from mlfsic_bench import distributed
from mlfsic_bench.cli.echo import plain_streams, usage_errors
from mlfsic_bench.cli.options import VERBOSITY, with_options
from mlfsic_bench.cli.streams import (
    leave,
    open_missing,
    refuse_lost_folder,
    say_always,
    set_verbosity,
    system_error,
)
from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.progress import LOG
from mlfsic_bench.signals import ignore_signals, stoppable
from mlfsic_bench.version import __version__

# command -> (module with a click command of that name, one line of help)
COMMANDS: dict[str, tuple[str, str]] = {
    "data": ("mlfsic_bench.cli.data", "List, download and verify data sets and weights."),
    "datasets": ("mlfsic_bench.cli.datasets", "List, show and check data sets, or begin one."),
    "splits": ("mlfsic_bench.cli.splits", "List, show, make, build, verify and audit splits."),
    "episodes": ("mlfsic_bench.cli.episodes", "Sample, verify and show episodes."),
    "embeddings": (
        "mlfsic_bench.cli.embeddings",
        "Show what a file of label embeddings holds, or make one.",
    ),
    "features": ("mlfsic_bench.cli.features", "Extract, inspect and verify stored features."),
    "backbones": (
        "mlfsic_bench.cli.backbones",
        "List, show and check backbones, and begin a new one.",
    ),
    "methods": ("mlfsic_bench.cli.methods", "List, show and check methods, or begin one."),
    "run": ("mlfsic_bench.cli.run", "Fit a method and score its query images."),
    "counts": (
        "mlfsic_bench.cli.counts",
        "Predict how many labels each query image shows.",
    ),
    "score": ("mlfsic_bench.cli.score", "Score files and runs, with three kinds of interval."),
    "table": ("mlfsic_bench.cli.table", "Print the table for a paper from runs."),
    "cite": ("mlfsic_bench.cli.cite", "Print BibTeX of what is behind some runs."),
    "compare": ("mlfsic_bench.cli.compare", "Compare runs: paired differences, tests, ranks."),
    "plot": ("mlfsic_bench.cli.plot", "Draw plots of scores and training histories."),
    "curve": ("mlfsic_bench.cli.curve", "Draw learning curves over the base images."),
    "claims": ("mlfsic_bench.cli.claims", "Compare published values with arithmetic and chance."),
    "pointing": ("mlfsic_bench.cli.pointing", "Measure how often the attention is on the object."),
    "attention": ("mlfsic_bench.cli.attention", "Draw attention maps over support images."),
    "reproduce": ("mlfsic_bench.cli.reproduce", "Make a table or figure of the paper."),
    "sweep": ("mlfsic_bench.cli.sweep", "Do a grid of runs, on this machine or on a cluster."),
    "leaderboard": ("mlfsic_bench.cli.leaderboard", "Build the leaderboard from its entries."),
    "submit": ("mlfsic_bench.cli.submit", "Make and check leaderboard entries."),
    "demo": ("mlfsic_bench.cli.demo", "Run six methods on the embedded scenes."),
}


# how threads wait: the standard's variable, and those of the libraries of GCC and LLVM
WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


class LazyGroup(click.Group):
    """A group that imports a command's module when the command is called, not before."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does it; what an error repeats of the arguments is safe to print."""
        set_verbosity(logging.INFO)
        with usage_errors():
            return super().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order in which the data pass through them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(COMMANDS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        _with_verbosity(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that `args` begin with; an unknown one is an error with the nearest known."""
        close = nearest(args[0], COMMANDS)
        if close is not None and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(f"No such command {args[0]!r}. Did you mean {close!r}?")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Refuse arguments that are no text: their names could neither be printed nor recorded."""
        for argument in args:
            if "\0" in argument or not _is_text(argument):
                raise BenchError(
                    f"the argument {argument!a} is not text",
                    expected="arguments and file names in UTF-8, without NUL",
                    found="bytes that are not UTF-8" if "\0" not in argument else "a NUL",
                    remedy="rename the file, or correct the argument",
                )
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Do the command's work; stopped by Ctrl-C, SIGTERM or SIGHUP, exit as a shell expects."""
        try:
            with usage_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            leave(stop, "cancelled")
        except EOFError as error:  # click would say "Aborted!" and nothing else
            raise RuntimeError(
                "a file ended too early; if it is compiled code that a full disk cut off, delete "
                "the folder __pycache__ of the module that is imported above"
            ) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table above, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlfsic-bench")
@with_options(*VERBOSITY)
def cli() -> None:
    """A benchmark of multi-label few-shot image classification.

    The data go from a dataset to a split, its episodes, the scores of a method and a table. -q and
    -v also work after a command. Exit code 0: done; 1: a difference or a failure was found; 2: bad
    input.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the program; a BenchError is printed and exits with 2, as does an error of the system.

    Without `args` it is the program of this process, and ends it.
    """
    try:
        _main(args)
    except SystemExit as end:
        if args is None:
            end_at_once(end)
        raise


def end_at_once(end: SystemExit) -> None:
    """End the process as `end` says, where torch is loaded and no thread has to be waited for.

    Python would take torch apart object by object, half as long as it took to load. What is to be
    done at the end is done here: functions of `atexit`, and what the streams hold is written.
    """
    others = [one for one in threading.enumerate() if one is not threading.current_thread()]
    if "torch" not in sys.modules or not all(one.daemon for one in others):
        return
    if not isinstance(end.code, int | None):
        return
    ignore_signals()  # the work is done: Ctrl-C would end in a traceback of what ends processes
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # closed by its reader, or by the user
            stream.flush()
    os._exit(end.code or 0)


def _main(args: Sequence[str] | None) -> None:
    open_missing()
    plain_streams()
    let_threads_sleep()
    try:
        refuse_lost_folder()
        distributed.silent()
        divided = _is_divided(sys.argv[1:] if args is None else args)
        if distributed.environment()[0] and not divided:
            return  # process 0 does it alone
        with stoppable(), distributed.together() if divided else nullcontext():
            cli.main(args=list(args) if args is not None else None, prog_name="mlfsic-bench")
    except (BenchError, OSError) as error:
        shown = system_error(error) if isinstance(error, OSError) else error
        say_always(f"error: {shown}")
        if LOG.level <= logging.DEBUG:
            say_always("".join(traceback.format_exception(error)).rstrip())
        sys.exit(shown.exit_code)


def let_threads_sleep() -> None:
    """Let the threads of torch's OpenMP sleep while they wait, unless the user has said how.

    They would turn in a loop, and beside another job on the same cores the one that has work gets
    no core: a run then takes ten times the CPU. OpenMP reads this when torch is loaded.
    """
    if "torch" not in sys.modules and not any(name in os.environ for name in WAITING):
        os.environ[WAITING[0]] = "PASSIVE"


def _is_divided(args: Sequence[str]) -> bool:
    """Whether several processes share the work of this command line."""
    words = [word for word in args if not word.startswith("-")]
    return words[:1] == ["run"] or words[:2] == ["features", "extract"]


def _with_verbosity(command: click.Command) -> None:
    """Let a command, and all below it, take -q and -v too."""
    if all(param.name != "verbose" for param in command.params):
        for option in VERBOSITY:
            option(command)
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            _with_verbosity(inner)


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
