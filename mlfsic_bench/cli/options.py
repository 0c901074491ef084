"""Options that several commands have, each written once, and how a report is put out."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable, Collection, Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo
from mlfsic_bench.cli.streams import say, set_verbosity
from mlfsic_bench.episodes.protocol import DEFAULT, OPTIONS, PROTOCOLS
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.training_options import Training, parse_augmentations

Option = Callable[[Any], Any]


def _augment(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    """The names in `--augment`, checked."""
    return parse_augmentations(value) if value else ()


def training_of(options: dict[str, Any]) -> Training:
    """The `Training` of the options TRAINING, which are taken out of `options`."""
    return Training(**{field.name: options.pop(field.name) for field in fields(Training)})


# Ending of a file -> the format it is written in, of those that a command offers.
FORMATS = {
    ".txt": "text",
    ".json": "json",
    ".csv": "csv",
    ".md": "markdown",
    ".tex": "latex",
    ".html": "html",
}


def _verbosity(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Say less or more from now on; both at once are refused."""
    if not value:
        return
    given = ctx.meta.setdefault("mlfsic_bench.verbosity", param.name)
    if given != param.name:
        raise click.UsageError("--quiet and --verbose do not go together.", ctx)
    set_verbosity(logging.WARNING if param.name == "quiet" else logging.DEBUG)


# Of every command, before it and behind it.
VERBOSITY: tuple[Option, ...] = (
    click.option("-q", "--quiet", is_flag=True, expose_value=False, callback=_verbosity,
                 help="Print results and errors, no progress and no notes."),
    click.option("-v", "--verbose", is_flag=True, expose_value=False, callback=_verbosity,
                 help="Also say which files are read, and where an error arose."),
)  # fmt: skip

PATH = click.Path(path_type=Path)

OUT: Option = click.option(
    "--out", type=PATH, metavar="FILE",
    help="Write to a file, in the format of its ending if --format names none.",
)  # fmt: skip

OUT_ALONE: Option = click.option(  # of commands with one format
    "--out", type=PATH, metavar="FILE", help="Write to a file."
)

SPLIT: Option = click.option(
    "--split", required=True, type=complete.SPLIT, metavar="ID|FILE",
    help="A shipped split or a split file.",
)  # fmt: skip
DATASET: Option = click.option(
    "--dataset", type=complete.DATASET, metavar="SPEC",
    help="The split's data, where its name does not say: a table of images, or FILE.py:CLASS.",
)  # fmt: skip
DATA_ROOT: Option = click.option(
    "--data-root", type=PATH, envvar="MLFSIC_DATA",
    help="Folder with the data sets, coco/ and VOCdevkit/ (default: MLFSIC_DATA).",
)  # fmt: skip
# Which images of a split are used.
PARTIAL: tuple[Option, ...] = (
    click.option("--available-only", is_flag=True,
                 help="Only images on disk; the split is then partial, and results say so."),
    click.option("--min-pool", type=click.IntRange(1), metavar="N",
                 help="Exclude labels with fewer than N images from their class split."),
)  # fmt: skip

BACKBONE: Option = click.option(
    "--backbone", required=True, type=complete.BACKBONE, metavar="NAME",
    help="The network that makes features: a name (`backbones list`), timm:NAME, torchvision:NAME, "
    "open_clip:ARCH/PRETRAINED, hf:ID, or path/to/file.py:build; A+B for two of them.",
)  # fmt: skip
WEIGHTS: Option = click.option(
    "--weights", default="default", type=complete.WEIGHTS, metavar="W",
    help="imagenet, none, or a file (default: the backbone's own pretrained ones); W1+W2 for A+B.",
)  # fmt: skip
FEATURES_PACK: Option = click.option(
    "--features-pack", type=PATH, metavar="FILE",
    help="A feature pack or an imported store, in place of images and backbone.",
)  # fmt: skip
PRECISION: Option = click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), default="fp32", show_default=True,
    help="Arithmetic of the backbone; bf16 is faster, less exact, and stored separately.",
)  # fmt: skip
CACHE: Option = click.option(
    "--cache", type=PATH,
    help="Folder of stored features (default: MLFSIC_CACHE, else ~/.cache/mlfsic-bench).",
)  # fmt: skip
DEVICE: Option = click.option(
    "--device", type=complete.DEVICE, metavar="auto|cpu|cuda|cuda:N", default="auto",
    show_default=True, help="Where to compute.",
)  # fmt: skip
# How a live network is computed: the fields of features.training_options.Training.
TRAINING: tuple[Option, ...] = (
    click.option("--tf32", is_flag=True,
                 help="Live networks: let a GPU round products to TensorFloat-32."),
    click.option("--micro-batch", type=click.IntRange(1), metavar="N",
                 help="End to end: N images at once with a graph; the same gradients, in two "
                 "passes."),
    click.option("--batch-norm", type=click.Choice(["batch", "frozen"]),
                 help="End to end: statistics that batch norms use.  [default: frozen with "
                 "--micro-batch, else batch]"),
    click.option("--checkpointing", is_flag=True,
                 help="End to end: compute blocks again rather than keep them."),
    click.option("--compile", is_flag=True, help="Live networks: use torch.compile."),
    click.option("--image-cache/--no-image-cache", default=None,
                 help="Live networks: keep decoded images.  [default: end to end]"),
    click.option("--augment", metavar="LIST", callback=_augment,
                 help="End to end: change training images: translate,contrast,flip, or some."),
)  # fmt: skip
# How images are decoded and fed to the backbone; neither changes a value.
LOADING: tuple[Option, ...] = (
    click.option("--batch-size", type=click.IntRange(1), metavar="N", help="Images at once."),
    click.option("--workers", type=click.IntRange(1), metavar="N", help="Decoding threads."),
)


def optional(option: Option) -> Option:
    """The same option, where a command can do without it; see `needed_without`."""

    def add(function: Any) -> Any:
        made = option(function)
        made.__click_params__[-1].required = False
        return made

    return add


def needed_without(name: str) -> None:
    """Refuse a command line that has neither the option `--name` nor a feature pack."""
    ctx = click.get_current_context()
    if not ctx.params.get(name) and ctx.params.get("features_pack") is None:
        param = next(one for one in ctx.command.params if one.name == name)
        raise click.MissingParameter(ctx=ctx, param=param)


def parse_settings(
    context: click.Context | None, option: click.Parameter | None, pairs: Iterable[str]
) -> dict[str, str]:
    """`["lr=0.01", "heads=8"]` as `{"lr": "0.01", "heads": "8"}`; BenchError when malformed."""
    flag = option.opts[0] if option else "--set"
    settings: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        key = key.strip()
        if not equals or not key:
            raise BenchError(
                f"{flag} {pair} can't be read",
                expected="name=value, each name once",
                found=repr(pair),
                remedy=f"write {flag} NAME=VALUE, such as --set epochs=40",
            )
        if key in settings:
            raise BenchError(
                f"the parameter {key!r} is set twice",
                expected="each parameter set once",
                found=f"{key}={settings[key]} and {pair}",
                remedy="remove one of the two",
            )
        settings[key] = value.strip()
    return settings


PARAMETERS: tuple[Option, ...] = (
    click.option("--preset", type=complete.PRESET, metavar="P",
                 help="A named set of the method's parameters."),
    click.option("--set", "settings", multiple=True, metavar="NAME=VALUE",
                 callback=parse_settings,
                 help="One parameter; repeatable."),
)  # fmt: skip

EMBEDDINGS_FORMAT: Option = click.option(
    "--embeddings-format",
    type=click.Choice(["auto", "text", "binary"]),
    default="auto",
    show_default=True,
    help="How the label embeddings are written, should their content mislead.",
)

TEMPLATES: Option = click.option(
    "--template",
    "templates",
    multiple=True,
    metavar="TEXT",
    help="Text that an encoder reads of a label, {} being the label; repeatable, averaged.  "
    "[default: a photo of a {}.]",
)

# How episodes are drawn: the arguments of episodes.protocol.find_protocol.
PROTOCOL: tuple[Option, ...] = (
    click.option("--protocol", type=click.Choice(list(PROTOCOLS)),
                 help=f"How episodes are drawn.  [default: {DEFAULT}]"),
    *(click.option(f"--{name}", type=click.IntRange(1), metavar=letter, help=text)
      for name, (letter, text) in OPTIONS.items()),
)  # fmt: skip

# The keyword arguments of results.targets.SplitPlace: for scores whose record and this machine do
# not say where their split is.
PLACE: tuple[Option, ...] = (
    click.option("--split", type=complete.SPLIT, metavar="ID|FILE",
                 help="The split (default: by the id in the scores)."),
    click.option("--data-root", type=PATH,
                 help="Where the labels lie, for splits that don't ship with their images (or "
                 "MLFSIC_DATA)."),
    click.option("--episodes-file", type=PATH, help="Other novel episodes."),
)  # fmt: skip

SEEDS: Option = click.option(
    "--seeds",
    type=click.Choice(["mean", "each"]),
    default="mean",
    show_default=True,
    help="Average over a method's training seeds, or keep each.",
)


def method_files(
    context: click.Context | None, option: click.Parameter | None, given: tuple[str, ...]
) -> dict[str, str]:
    """Name -> file and class, of `NAME=FILE.py:Class`; BenchError for anything else."""
    pairs = [text.partition("=") for text in given]
    names = [name for name, _, _ in pairs]
    for text, (name, _, spec) in zip(given, pairs, strict=True):
        if not name or not spec or names.count(name) > 1:
            raise BenchError(
                f"--method {text} can't be used",
                expected="--method NAME=path/to/file.py:Class, each name once",
                found=f"{name!r} twice" if names.count(name) > 1 else repr(text),
                remedy="write a name of the file's methods, =, the file, a colon and the class",
            )
    return {name: spec for name, _, spec in pairs}


METHOD_FILES: Option = click.option(
    "--method", "methods", multiple=True, metavar="NAME=FILE.py:Class", callback=method_files,
    help="What a method's name in your own file stands for; repeatable.",
)  # fmt: skip

# Where runs are done: `cli.sweep.launcher_of` turns these into a launcher.
LAUNCHING: tuple[Option, ...] = (
    click.option("--launcher", type=click.Choice(["local", "slurm"]), default="local",
                 show_default=True, help="Do the runs on this machine, or in jobs of SLURM."),
    click.option("--jobs", type=click.IntRange(1), metavar="N",
                 help="Processes of --launcher local that share the runs.  [default: 1]"),
    click.option("--slurm", "asks", multiple=True, metavar="NAME=VALUE",
                 callback=parse_settings,
                 help="What a SLURM job asks for, such as partition=gpu; repeatable "
                 "(docs/scale.md)."),
)  # fmt: skip

# The keyword arguments of results.reopen.RunPaths: what a run was made with, where neither its
# record nor this machine says where that is.
RUN_PATHS: tuple[Option, ...] = (
    click.option("--method", metavar="FILE.py:CLASS", help="The run's method, if it is a file's."),
    click.option("--split", metavar="FILE", help="The run's split, if it is a file."),
    click.option("--data-root", type=click.Path(path_type=Path), help="Where the images lie."),
    DATASET,
    click.option(
        "--embeddings", type=click.Path(path_type=Path), help="The run's label embeddings."
    ),
    EMBEDDINGS_FORMAT,
    click.option("--weights", metavar="FILE", help="The backbone's weights, if they are a file."),
    click.option("--episodes-file", type=click.Path(path_type=Path), help="The run's episodes."),
    click.option("--cache", type=click.Path(path_type=Path), help="Where features are kept."),
    FEATURES_PACK,
)

# What is compared with what.
PAIRS: tuple[Option, ...] = (
    click.option("--metric", "metrics", type=complete.METRIC, metavar="NAME", multiple=True,
                 default=("macro_ap",), show_default=True,
                 help="What to compare; repeatable."),
    click.option("--against", metavar="NAME|FOLDER",
                 help="Compare all with this one, not all pairs."),
    SEEDS,
)  # fmt: skip


def text_form(*forms: str) -> Option:
    """The option `--format`, one of FORMATS; without it the ending of `--out` decides, or `text`.

    The function gets it as `form`.
    """
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        callback=_form,
        help="How it is written.  [default: the ending of --out, or text]"
        if "csv" in forms or "markdown" in forms
        else "How it is written.  [default: text]",
    )


def _form(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    if value is not None:
        return value
    assert isinstance(param.type, click.Choice)
    out = ctx.params.get("out")  # options that are given are read before those that are not
    form = FORMATS.get(out.suffix.lower(), "text") if isinstance(out, Path) else "text"
    if form not in param.type.choices:
        raise click.UsageError(
            f"{out} ends as a file of {form}, which is not written here; name one of "
            f"{', '.join(param.type.choices)} with --format.",
            ctx,
        )
    return form


def sources(metavar: str, name: str = "sources") -> Option:
    """The argument of one or more runs or scores files."""
    return click.argument(name, nargs=-1, required=True, type=PATH, metavar=metavar)


def with_options(*options: Option) -> Option:
    """A decorator that adds these options, the first of them first in `--help`."""

    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


def say_next(*words: object, again: Collection[str] = ()) -> None:
    """Name the command that usually comes next, as a note.

    Parameters
    ----------
    again: the parameters of this command that the next one has as well, such as `data_root`; those
        that were given on the command line are repeated behind `words`.
    """
    context = click.get_current_context()
    given: list[str] = []
    for param in context.command.params:
        source = context.get_parameter_source(param.name or "")
        if param.name not in again or source is not ParameterSource.COMMANDLINE:
            continue
        value = context.params[param.name]
        if value is True:
            given.append(param.opts[-1])
            continue
        if isinstance(value, dict):
            value = tuple(f"{key}={one}" for key, one in value.items())
        for one in value if isinstance(value, tuple) else (value,):
            given += [param.opts[0], str(one)]
    say(f"next: {shlex.join(['mlfsic-bench', *map(str, words), *given])}")


def refuse_input(out: Path) -> None:
    """BenchError when `out` is one of the command's inputs, or a file of a folder among them."""
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.paths import exists, is_folder, same_place

    for name, value in click.get_current_context().params.items():
        for given in map(_named_file, value if isinstance(value, tuple) else (value,)):
            if name == "out" or given is None:
                continue
            place = given / out.name if is_folder(given) else given
            if exists(place) and same_place(place, out):
                raise BenchError(
                    f"the output would replace an input, {place}",
                    expected="another file for the output",
                    found=f"--out {out}",
                    remedy="name another file with --out",
                )


def _named_file(value: object) -> Path | None:
    """The file or folder of a path, or the file of `FILE`, `NAME=FILE` or `FILE:NAME`."""
    from mlfsic_bench.paths import is_file

    if not isinstance(value, str):
        return value if isinstance(value, Path) else None
    forms = (value, value.partition("=")[2], value.rpartition(":")[0])
    return next((Path(form) for form in forms if form and is_file(Path(form))), None)


def put_out(text: str, out: Path | None) -> None:
    """Write a report to the file `out`, or print it where none is named."""
    from mlfsic_bench.files import write_text

    if out is not None:
        refuse_input(out)
        write_text(out, text)
    else:
        echo(text, nl=False)
