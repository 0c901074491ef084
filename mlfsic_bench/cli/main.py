"""The program `mlfsic-bench`: finds the verb, imports only what that verb needs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from mlfsic_bench import __version__
from mlfsic_bench.cli.echo import plain_streams, usage_errors
from mlfsic_bench.cli.streams import leave, open_missing, refuse_lost_folder, say, system_error
from mlfsic_bench.errors import BenchError, nearest
from mlfsic_bench.signals import stoppable

# verb -> (module with a click command of the verb's name, one line of help)
VERBS: dict[str, tuple[str, str]] = {
    "splits": ("mlfsic_bench.cli.splits", "List, show, build, verify and audit splits."),
    "episodes": ("mlfsic_bench.cli.episodes", "Sample, verify and show episodes."),
    "embeddings": (
        "mlfsic_bench.cli.embeddings",
        "Show what a file of label embeddings has, or make one.",
    ),
    "features": ("mlfsic_bench.cli.features", "Extract, inspect and verify stored features."),
    "methods": ("mlfsic_bench.cli.methods", "List, show and check methods."),
    "run": ("mlfsic_bench.cli.run", "Fit a method and score its query images."),
    "score": ("mlfsic_bench.cli.score", "Score files and runs, with three kinds of interval."),
    "table": ("mlfsic_bench.cli.table", "Print the table for a paper from runs."),
    "cite": ("mlfsic_bench.cli.cite", "Print BibTeX of what is behind some runs."),
    "compare": ("mlfsic_bench.cli.compare", "Compare runs: paired differences, tests, ranks."),
    "plot": ("mlfsic_bench.cli.plot", "Draw what stored scores and histories say."),
    "curve": ("mlfsic_bench.cli.curve", "Draw learning curves over the base images."),
    "claims": ("mlfsic_bench.cli.claims", "Check published figures for what can't be true."),
    "pointing": ("mlfsic_bench.cli.pointing", "Measure how often attention is on the object."),
    "attention": ("mlfsic_bench.cli.attention", "Draw what the attention looks at."),
    "reproduce": ("mlfsic_bench.cli.reproduce", "Make a table or figure of the paper."),
    "leaderboard": ("mlfsic_bench.cli.leaderboard", "Build the leaderboard from its entries."),
    "submit": ("mlfsic_bench.cli.submit", "Make and check leaderboard entries."),
    "demo": ("mlfsic_bench.cli.demo", "Run every method on the embedded scenes."),
}


class LazyGroup(click.Group):
    """A group that imports a verb's module when the verb is called, not before."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """As click does it; what an error repeats of the arguments is safe to print."""
        with usage_errors():
            return super().make_context(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order of the data's way."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The click command of a verb, imported now."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(VERBS[cmd_name][0])
        command: click.Command = getattr(module, cmd_name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that `args` begin with; an unknown one is an error with the nearest known."""
        close = nearest(args[0], VERBS)
        if close is not None and args[0] not in VERBS and not args[0].startswith("-"):
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
        """Do the verb's work; stopped by Ctrl-C, SIGTERM or SIGHUP, exit as a shell expects."""
        try:
            with usage_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            leave(stop, "cancelled")

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, from the table above, without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(verb, text) for verb, (_, text) in VERBS.items()])


@click.group(cls=LazyGroup)
@click.version_option(__version__, prog_name="mlfsic-bench")
def cli() -> None:
    """The place where multi-label few-shot image classification is measured.

    Data flows one way: dataset, split, episodes, method, scores, report.
    """


def main(args: Sequence[str] | None = None) -> None:
    """Run the program; a BenchError is printed and exits with 2, as does an error of the system."""
    open_missing()
    plain_streams()
    try:
        refuse_lost_folder()
        with stoppable():
            cli.main(args=list(args) if args is not None else None, prog_name="mlfsic-bench")
    except (BenchError, OSError) as error:
        shown = system_error(error) if isinstance(error, OSError) else error
        say(f"error: {shown}")
        sys.exit(shown.exit_code)


def _is_text(argument: str) -> bool:
    try:
        argument.encode()
    except UnicodeEncodeError:
        return False
    return True
