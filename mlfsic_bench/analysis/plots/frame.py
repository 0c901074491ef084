"""What all plots share: how they are written, their colours, how names from files are drawn."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlfsic_bench.errors import BenchError
from mlfsic_bench.results.captions import OFF_DEFAULTS
from mlfsic_bench.text import csv_text, for_terminal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FORMS = {"png": "Software", "svg": "Date", "pdf": "CreationDate"}  # and what varies in such a file
ABOUT = {"png": "Description", "svg": "Description", "pdf": "Subject"}  # where the words go

# Okabe and Ito's colours for all kinds of colour vision; markers, dashes and brightness tell the
# runs apart in grey.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = (
    "-", "--", "-.", (0, (1, 1)), (0, (6, 1, 1, 1, 1, 1)), (0, (8, 3)))  # fmt: skip
MOST_RUNS = len(COLOURS)
CHANCE = "0.45"


@dataclass(frozen=True, eq=False)
class Plot:
    """A picture ready to be drawn, with the numbers in it.

    Attributes
    ----------
    title: above the picture; alt: what it shows, in words.
    head, rows: the plotted numbers as a table.
    size: width and height in inches.
    draw: puts everything but the title on a figure.
    """

    title: str
    alt: str
    head: tuple[str, ...]
    rows: tuple[tuple[object, ...], ...]
    size: tuple[float, float]
    draw: Callable[[Figure], None]


def form_of(path: Path) -> str:
    """The form that a file's suffix says; BenchError when it is none of FORMS."""
    form = path.suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise BenchError(
            f"can't draw into {path}",
            expected="a file whose name ends in " + ", ".join(f".{name}" for name in FORMS),
            found=repr(path.suffix) if path.suffix else "a name without an ending",
            remedy="name another file",
        )
    return form


@contextmanager
def drawing() -> Iterator[None]:
    """For every picture: text stays text in an SVG, ids are not drawn at random, a $ is a $."""
    from matplotlib import rc_context

    style: Any = {
        "svg.hashsalt": "mlfsic-bench",
        "svg.fonttype": "none",
        "text.parse_math": False,
        "axes.formatter.use_mathtext": False,
        "axes.unicode_minus": True,
    }
    with rc_context(style), warnings.catch_warnings():
        # Names may hold characters that the font lacks: a box is drawn, which is no fault.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def picture(plot: Plot, form: str) -> bytes:
    """The bytes of the picture's file; the same plot always gives the same bytes."""
    from matplotlib.figure import Figure

    with drawing():
        figure = Figure(figsize=plot.size, dpi=144, layout="constrained")
        plot.draw(figure)
        figure.suptitle(wrapped(plot.title, int(plot.size[0] * 11)), fontsize=10.5)
        title = for_terminal(plot.title.replace("\n", ", "))
        about = {"Title": title, ABOUT[form]: for_terminal(plot.alt)}
        stream = io.BytesIO()
        figure.savefig(stream, format=form, metadata={FORMS[form]: None, **about})
    return stream.getvalue()


def data(plot: Plot) -> str:
    """The plotted numbers as CSV, unrounded."""
    return csv_text([plot.head, *plot.rows])


def plain(text: str, length: int = 48) -> str:
    """A name on a picture: one line, no control characters; where too long, cut in the middle.

    What tells names apart stands at their end as often as at their beginning.

    >>> plain("word-guided-attention (seed=0)", 20)
    'word-guide… (seed=0)'
    """
    text = for_terminal(text)
    if len(text) > length:
        tail = length * 9 // 20
        text = text[: length - tail - 1] + "…" + text[-tail:]
    # Matplotlib leaves names that begin with "_" out of legends.
    return f" {text}" if text.startswith("_") else text


def legend_name(name: str, changed: Mapping[str, object], length: int = 48) -> str:
    """A name on a picture, marked where parameters were `changed` from the method's defaults.

    >>> legend_name("protonet", {"scale": 9.0}), legend_name("protonet", {})
    ('protonet [not at its defaults]', 'protonet')
    """
    return plain(name, length) + (f" [{OFF_DEFAULTS}]" if changed else "")


def wrapped(text: str, width: int) -> str:
    """`text` in lines of at most `width` characters; its own line ends stay."""
    joined = text.replace(" %", "\u00a0%")  # a number and its unit stay in one line
    lines = [textwrap.wrap(for_terminal(line), width) or [""] for line in joined.split("\n")]
    return "\n".join(part for line in lines for part in line)


def legend_columns(names: Sequence[str]) -> int:
    """Two columns of names, one where they are long."""
    return 2 if max(len(name) for name in names) <= 36 else 1


def dress(axes: Axes, grid: str) -> None:
    """No frame above and on the right, a faint grid along one axis or `both`."""
    axes.grid(axis=grid, color="0.9", linewidth=0.8)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def check_number(kind: str, runs: int, most: int = MOST_RUNS) -> None:
    """BenchError for more runs than a picture can tell apart."""
    if runs > most:
        raise BenchError(
            f"{runs} runs are too many for one {kind} plot",
            expected=f"at most {most}, so that each can be seen",
            found=str(runs),
            remedy="name fewer runs, or draw several plots",
        )
