"""From a run's folder to its attention picture on disk."""

from __future__ import annotations

from pathlib import Path

from mlfsic_bench.analysis.attention.picture import FORMS, draw, hits, strips_of
from mlfsic_bench.errors import BenchError
from mlfsic_bench.files import write_bytes
from mlfsic_bench.results.reopen import RunPaths, reopen


def draw_attention(
    folder: Path,
    where: RunPaths,
    out: Path,
    *,
    episode: int = 0,
    labels: tuple[str, ...] = (),
    images: int = 6,
    heads: bool = False,
    whose: str = "",
) -> str:
    """Write the picture of one novel episode of the run in `folder` to `out`; a sentence on it.

    The ending of `out` says the format: .png, .svg or .pdf.
    At most `images` support images are drawn, those with most labels; with `heads` every head of
    every label has a map of its own beside the sum. `whose` stands above the picture in place of
    the method's name. Where objects are known the sentence says how often the highest cell lies on
    the object, over the whole support. Raises BenchError when the run can't be opened again
    (`reopen`) or has no attention.
    """
    from mlfsic_bench.data.registry import open_dataset

    form = out.suffix[1:].lower()
    if form not in FORMS:
        raise BenchError(
            f"can't draw into {out}",
            expected="a file whose name ends in " + ", ".join(f".{name}" for name in FORMS),
            found=repr(out.suffix) if out.suffix else "a name without an ending",
            remedy="correct --out",
        )
    run = reopen(folder, where)
    method, support = run.episode(episode)
    dataset = open_dataset(run.inputs.split.dataset, where.data_root)
    strips = strips_of(method, support, dataset, labels)
    wide = strips_of(method, support, dataset, labels, heads=True) if heads else strips
    first = list(dict.fromkeys(strip.image_id for strip in strips))[:images]
    shown = [strip for strip in wide if strip.image_id in first]
    outlined = any(panel.outline is not None for strip in shown for panel in strip.panels)
    title = (
        f"{whose or method.name} on {run.inputs.split.id}, support of novel episode {episode}\n"
        "bright: high attention score, "
        + ("all heads summed and each alone" if heads else "summed over heads")
        + ("; white line: the object" if outlined else "")
    )
    write_bytes(out, draw(shown, title, form))
    found, total, chance = hits(strips)
    if not total:
        return f"wrote {out}"
    return (
        f"wrote {out}; the highest cell lies on the object in {found:g} of {total} maps "
        f"(by chance: {chance:.1f})"
    )
