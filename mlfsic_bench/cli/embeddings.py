"""`mlfsic-bench embeddings`: what a file of label embeddings has for labels; making one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mlfsic_bench.cli import complete
from mlfsic_bench.cli.echo import echo, echo_json
from mlfsic_bench.cli.options import (
    DEVICE,
    EMBEDDINGS_FORMAT,
    TEMPLATES,
    WEIGHTS,
    say_next,
    text_form,
    with_options,
)
from mlfsic_bench.text import for_terminal

if TYPE_CHECKING:
    from mlfsic_bench.embeddings.formats import Form
    from mlfsic_bench.embeddings.label_embeddings import Lookup

NEIGHBOURS = 3
# The two ways to name labels, of which a command takes one.
LABELS = (
    click.option(
        "--split", type=complete.SPLIT, metavar="ID|FILE", help="The labels of this split."
    ),
    click.option("--labels", metavar="A,B,...", help="These labels, commas between."),
)

# What reads texts, of which a command takes one.
ENCODER = (
    click.option("--backbone", type=complete.BACKBONE, metavar="NAME",
                 help="The text side of this network."),
    WEIGHTS,
    click.option("--model", metavar="DIR", type=click.Path(path_type=Path),
                 help="Folder of a sentence encoder, as save_pretrained writes it."),
)  # fmt: skip


@click.group()
def embeddings() -> None:
    """Show what a file of label embeddings has, or make one from a language model."""


@embeddings.command()
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@with_options(*LABELS)
@EMBEDDINGS_FORMAT
@text_form("text", "json")
@click.pass_context
def show(
    ctx: click.Context,
    file: Path,
    split: str | None,
    labels: str | None,
    embeddings_format: Form,
    form: str,
) -> None:
    """Show FILE's format and size, and how each label is found in it.

    With labels: the entries each one is made of, and the three labels nearest to it by cosine.
    Exit code 1 when a label has no vector. FILE may be `scenes`, that data set's own vectors.
    """
    from mlfsic_bench.embeddings.label_embeddings import look_up

    names = _labels(split, labels, required=False)
    lookup = look_up(file, names, embeddings_format)
    neighbours = _neighbours(lookup)
    if form == "json":
        echo_json(_as_dict(file, lookup, neighbours))
    else:
        _print_file(file, lookup)
        for label, entries in lookup.found.items():
            _print_label(label, _how(label, entries), neighbours[label])
        for missing in lookup.missing:
            echo(for_terminal(f"no vector: {missing}"))
        if names:
            echo(f"{len(lookup.found)} of {len(names)} labels have a vector")
    if lookup.missing:
        ctx.exit(1)


@embeddings.command()
@click.option("--model", required=True, metavar="DIR", type=click.Path(path_type=Path),
              help="Folder of a BERT model, as save_pretrained writes it.")  # fmt: skip
@click.option("--corpus", required=True, metavar="FILE", type=click.Path(path_type=Path),
              help="Text, one sentence a line, plain or gzip'd.")  # fmt: skip
@with_options(*LABELS)
@click.option("--out", required=True, metavar="FILE",
              type=click.Path(path_type=Path, dir_okay=False),
              help="Table to write; FILE.json beside it says what it was made of.")  # fmt: skip
@click.option("--mentions", type=click.IntRange(min=1), default=1000, show_default=True,
              metavar="N", help="Most sentences of a label that count.")  # fmt: skip
@click.option("--min-mentions", type=click.IntRange(min=1), default=1, show_default=True,
              metavar="N", help="Fewest sentences of a label; fewer are an error.")  # fmt: skip
@click.option("--masked/--unmasked", default=True, show_default=True,
              help="Replace the label by [MASK], or read its own tokens.")  # fmt: skip
@click.option("--layer", type=click.IntRange(min=1), metavar="N",
              help="Layer to read.  [default: the last]")  # fmt: skip
@DEVICE
def average(
    model: Path,
    corpus: Path,
    split: str | None,
    labels: str | None,
    out: Path,
    mentions: int,
    min_mentions: int,
    masked: bool,
    layer: int | None,
    device: str,
) -> None:
    """Make label embeddings with a BERT model.

    The vector of a label is the mean over sentences that mention it. Needs the extra `bert`.
    Nothing is downloaded, and nothing in the model's folder is executed.
    """
    from mlfsic_bench.cli.options import refuse_input
    from mlfsic_bench.embeddings.label_embeddings import side_file
    from mlfsic_bench.embeddings.text_encoder import AveragePlan
    from mlfsic_bench.embeddings.text_encoder import average as make
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.features.compute import parse_device

    refuse_input(out)
    names = _labels(split, labels, required=True)
    if min_mentions > mentions:
        raise BenchError(
            "no label can have enough mentions",
            expected="--min-mentions of at most --mentions",
            found=f"--min-mentions {min_mentions}, --mentions {mentions}",
            remedy="lower the one or raise the other",
        )
    plan = AveragePlan(model, corpus, names, mentions, min_mentions, masked, layer)
    used = make(plan, out, parse_device(device))
    for label in names:
        found = used.sentences[label]
        shown = for_terminal(label)
        echo(f"{shown:<20} {found:,} lines mention it; {len(used.taken[label]):,} taken")
    echo(f"{used.lines:,} lines; {used.too_long + used.undecodable:,} passed over")
    echo(f"{out} and {side_file(out)}")
    say_next("embeddings", "show", out, *(["--split", split] if split else ["--labels", labels]))


@embeddings.command()
@with_options(*ENCODER, *LABELS, TEMPLATES)
@click.option("--out", required=True, metavar="FILE",
              type=click.Path(path_type=Path, dir_okay=False),
              help="Table to write; FILE.json beside it says what it was made of.")  # fmt: skip
@DEVICE
def text(
    backbone: str | None,
    weights: str,
    model: Path | None,
    split: str | None,
    labels: str | None,
    templates: tuple[str, ...],
    out: Path,
    device: str,
) -> None:
    """Make label embeddings with an encoder of texts.

    The encoder is the text side of a backbone, or a sentence encoder in a folder. Each template is
    filled with the label; the vectors are averaged at unit length. Nothing is downloaded.
    """
    from mlfsic_bench.cli.options import refuse_input
    from mlfsic_bench.embeddings.texts import (
        TEMPLATES,
        SentenceEncoder,
        embed_labels,
        write_embeddings,
    )
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.evaluation.embeddings import from_backbone
    from mlfsic_bench.features.backbones.registry import build_backbones

    refuse_input(out)
    names = _labels(split, labels, required=True)
    if (backbone is None) == (model is None):
        raise BenchError(
            "can't tell which encoder is meant",
            expected="--backbone NAME or --model DIR",
            found="neither" if model is None else "both",
            remedy="name one of them",
        )
    if model is None:
        made = from_backbone(build_backbones(str(backbone), weights), names, templates or TEMPLATES)
    else:
        encoder = SentenceEncoder(model, device)
        made = embed_labels(names, encoder, templates or TEMPLATES, name=model.name)
    write_embeddings(made, out)
    echo(f"{out}: {len(made.labels)} labels, {made.dimension} numbers each")
    say_next("embeddings", "show", out, *(["--split", split] if split else ["--labels", labels]))


def _labels(split: str | None, labels: str | None, *, required: bool) -> tuple[str, ...]:
    """The labels that the options name; BenchError for both, and for none where `required`."""
    from mlfsic_bench.data.dataset import PART_NAMES
    from mlfsic_bench.errors import BenchError
    from mlfsic_bench.splits.resolve import split_file

    if (split is not None and labels is not None) or (required and split is None and not labels):
        raise BenchError(
            "can't tell which labels are meant",
            expected="--split ID or --labels A,B",
            found="both" if split is not None else "neither",
            remedy="name one of them",
        )
    if split is not None:
        content = split_file(split)
        return tuple(label for part in PART_NAMES for label in content.labels.of(part))
    return tuple(label.strip() for label in labels.split(",")) if labels is not None else ()


def _neighbours(lookup: Lookup) -> dict[str, list[tuple[str, float]]]:
    """For each label that was found the labels nearest to it, with their cosine."""
    import numpy as np

    from mlfsic_bench.embeddings.label_embeddings import nearest_labels

    labels = list(lookup.found)
    vectors = [lookup.vector(label) for label in labels]
    near = nearest_labels(np.stack(vectors), NEIGHBOURS) if labels else []
    return {
        label: [(labels[other], cosine) for other, cosine in row]
        for label, row in zip(labels, near, strict=True)
    }


def _how(label: str, entries: tuple[str, ...]) -> str:
    if len(entries) > 1:
        return f"mean of {', '.join(entries)}"
    return "as it is" if entries[0] == label else f"entry {entries[0]}"


def _print_file(file: Path, lookup: Lookup) -> None:
    entries = lookup.entries
    echo(f"{file}: {entries.layout}, {entries.count:,} entries, {entries.dimension} numbers")
    if entries.promised not in (None, entries.count):
        echo(f"the header says {entries.promised:,} entries, one more than there are")
    if entries.undecodable:
        echo(f"{entries.undecodable:,} entries are not UTF-8 and were passed over")
    if entries.repeated:
        echo(for_terminal(f"more than once, the first counts: {', '.join(entries.repeated)}"))


def _print_label(label: str, how: str, neighbours: list[tuple[str, float]]) -> None:
    near = ", ".join(f"{other} {cosine:.2f}" for other, cosine in neighbours)
    echo(for_terminal(f"{label:<16} {how:<28} {near}".rstrip()))


def _as_dict(
    file: Path, lookup: Lookup, neighbours: dict[str, list[tuple[str, float]]]
) -> dict[str, Any]:
    entries = lookup.entries
    return {
        "file": str(file),
        "format": entries.layout,
        "entries": entries.count,
        "promised": entries.promised,
        "dimension": entries.dimension,
        "undecodable": entries.undecodable,
        "repeated": list(entries.repeated),
        "labels": {
            label: {"entries": list(chosen), "nearest": [list(row) for row in neighbours[label]]}
            for label, chosen in lookup.found.items()
        },
        "missing": {
            missing.label: {"words": list(missing.words), "resembling": list(missing.near)}
            for missing in lookup.missing
        },
    }
