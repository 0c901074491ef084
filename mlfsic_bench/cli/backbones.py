"""`mlfsic-bench backbones`: list, show and check backbones, and begin a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import WEIGHTS, text_form
from mlfsic_bench.cli.plugins import echo_rows, report_checks, rows_as_json, write_template
from mlfsic_bench.cli.streams import say
from mlfsic_bench.text import LONGEST_SAID, for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.features.backbones.base import Backbone

BACKBONE = click.argument("spec", type=complete.BACKBONE, metavar="BACKBONE")


@click.group("backbones")
def backbones() -> None:
    """List, show and check backbones, and begin a new one.

    BACKBONE is a registered name, timm:NAME, torchvision:NAME, open_clip:ARCH/PRETRAINED, hf:ID,
    hf:./FOLDER, or path/to/file.py:build; each with @mean, @class, @pool or @projection behind it
    for another global vector.
    """


@backbones.command("list")
@text_form("text", "json")
def list_command(form: str) -> None:
    """List the registered backbones, and the libraries of others."""
    from mlfsic_bench.features.backbones.registry import BACKBONES, PROVIDERS

    rows = {
        "backbones": BACKBONES.listed(_callable, _read),
        "providers": PROVIDERS.listed(_callable, _read),
    }
    if form == "json":
        echo_json(
            {
                kind: rows_as_json(
                    found, lambda loaded: {"extra_not_installed": _lacks(loaded) or None}
                )
                for kind, found in rows.items()
            }
        )
        return
    for kind, found in rows.items():
        echo_rows(found, _hint, ":" if kind == "providers" else "")
        echo("")
    echo("A network in a file: path/to/file.py:build (`mlfsic-bench backbones new FILE.py`).")


@backbones.command("show")
@BACKBONE
@WEIGHTS
@text_form("text", "json")
def show_command(spec: str, weights: str, form: str) -> None:
    """Show the map, global vector, input and weights of BACKBONE.

    Where its weights are not on this machine, the rest is shown with random ones.
    """
    from mlfsic_bench.features.backbones.registry import build_backbones
    from mlfsic_bench.features.backbones.weights import WeightsNotFoundError

    remedy = ""
    try:
        networks, missing = build_backbones(spec, weights), ""
    except WeightsNotFoundError as error:
        networks, missing = build_backbones(spec, "none"), f"not found: {error.expected}"
        remedy = error.remedy
    rows = [_about(network, missing) for network in networks]
    if form == "json":
        echo_json(rows)
        return
    for row in rows:
        for name, value in row.items():
            shown = " x ".join(map(str, value)) if isinstance(value, tuple) else value
            shown = f"{shown:,}" if isinstance(shown, int) else str(shown)
            echo(f"{name:<14}{for_terminal(shown, LONGEST_SAID)}")
        echo("")
    if remedy:
        say(f"note: to have the weights, {remedy}")


@backbones.command("check")
@BACKBONE
@WEIGHTS
@text_form("text", "json")
def check_command(spec: str, weights: str, form: str) -> None:
    """Run the contract tests on BACKBONE, one network.

    Exit code 1 when a test fails. `--weights none` checks a network whose weights are not here.
    """
    from mlfsic_bench.features.backbones.registry import build_backbone, find_builder
    from mlfsic_bench.testing.backbone_check import check_backbone

    find_builder(spec)  # a name that is wrong is no failed test
    results = check_backbone(lambda: build_backbone(spec, weights))
    report_checks("backbone", spec, results, form)


@backbones.command("new")
@click.argument("file", type=click.Path(path_type=Path), metavar="FILE.py")
def new_command(file: Path) -> None:
    """Write FILE.py, a small backbone to be changed into yours."""
    write_template(file, "backbone", "build", "mlfsic_bench.features.backbones", "template.py")


def _callable(loaded: object, name: str) -> Any:
    from mlfsic_bench.errors import BenchError

    if not callable(loaded):
        raise BenchError(
            f"{name} is no function that builds a backbone",
            expected="a function of the weights",
            found=f"a {type(loaded).__name__}",
            remedy="correct the entry point of the package that registers it",
        )
    return loaded


def _read(place: str) -> Any:
    """A function of this project, and what its module needs, without importing torch for them."""
    from mlfsic_bench.plugins.source import read_function

    return read_function(place, {"NEEDS": None})


def _hint(loaded: object) -> str:
    lacks = _lacks(loaded)
    return f"not installed: pip install 'mlfsic-bench[{lacks}]'" if lacks else ""


def _lacks(loaded: Any) -> str:
    """The extra of this package that a backbone or provider needs and that is not installed."""
    from importlib.util import find_spec

    needed, extra = getattr(loaded, "NEEDS", None) or ("", "")
    return extra if needed and find_spec(needed) is None else ""


def _about(backbone: Backbone, missing: str) -> dict[str, Any]:
    return {
        "name": backbone.name,
        "input": (backbone.input_size, backbone.input_size),
        "map": (backbone.channels, *backbone.grid),
        "vector": backbone.vector,
        "dim": backbone.dim,
        "text side": "yes" if backbone.text is not None else "no",
        "transform": backbone.transform_id,
        "weights": missing or backbone.found or backbone.weights,
        "weights hash": "" if missing else backbone.weights_hash,
        "parameters": sum(parameter.numel() for parameter in backbone.parameters()),
    }
