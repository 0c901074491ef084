"""What must be said below a reproduced table, from the records of its runs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mlfsic_bench.embeddings.joined import JOIN, sources
from mlfsic_bench.evaluation.meta import SplitMeta
from mlfsic_bench.experiments.plan import Options, PlannedRow
from mlfsic_bench.experiments.schema import Profile, text_of
from mlfsic_bench.experiments.table import ReproducedTable
from mlfsic_bench.metrics.intervals import LEVEL
from mlfsic_bench.metrics.registry import chance_levels
from mlfsic_bench.results.captions import count_labels, limits_of, small_pools
from mlfsic_bench.results.published import read_published
from mlfsic_bench.results.result import Result


def caption_of(
    table: ReproducedTable,
    results: Sequence[Sequence[Result]],
    planned: Sequence[PlannedRow],
    profile: Profile,
    options: Options,
) -> tuple[str, ...]:
    """Sentences on data, substitutes, schedules, seeds, intervals and what can't be compared.

    `results` and `planned` are those of the table's rows.
    """
    rows = [row for row, own in zip(planned, results, strict=True) if own]
    tuned = [row for row in rows if row.trials]
    return (
        f"{profile_line(options.dataset)}{profile.about}.",
        *data_lines([result for own in results for result in own]),
        *_networks(rows),
        *_embeddings(rows),
        *settings_lines(rows, profile),
        *_how_tuned(tuned, profile),
        *how_to_read(table),
        *_literature(table),
    )


def profile_line(profile: str) -> str:
    """How the first sentence of a table made on a profile begins."""
    return f"Profile {profile}: "


def data_lines(runs: Sequence[Result]) -> list[str]:
    """Split, subset, episodes, chance and small pools of these runs; a line for each protocol."""
    longest: dict[str, Result] = {}
    for run in runs:
        protocol = run.meta.episodes.drawn_by.title
        first = longest.setdefault(protocol, run)
        if run.meta.episodes.count > first.meta.episodes.count:
            longest[protocol] = run
    lines = []
    for protocol, run in longest.items():
        split, episodes = run.meta.split, run.meta.episodes
        assert run.stored is not None  # it is a run's folder
        micro, macro = chance_levels(run.stored.targets)
        limits = run.record.subset if run.record else None
        labels = count_labels(
            split.id, run.meta.labels, subset=split.subset, of_record=limits, part=episodes.part
        )
        # The level is of the episodes that were run, which need not be all.
        over = f" over the first {episodes.count}" if episodes.count < episodes.total else ""
        lines.append(
            f"Split {split.id} ({split.hash[:12]}), {episodes.part} part: {labels}; "
            f"protocol {protocol}; "
            f"{episodes.total} episodes ({episodes.hash[:12]}); chance{over}: "
            f"macro-AP {100 * macro:.2f}, micro-AP {100 * micro:.2f}."
        )
        lines += small_pools(run.stored, run.meta.labels)
    return lines + limits_of_runs(runs)


def limits_of_runs(runs: Sequence[Result]) -> list[str]:
    """What keeps these runs from being compared with others.

    Runs of earlier versions do not say how annotations differ from the official ones; another run
    on the same content of a split says it for them.
    """
    said: dict[str | None, SplitMeta] = {}
    for split in (run.meta.split for run in runs):
        if split.hash not in said or split.differs_from_official is not None:
            said[split.hash] = split
    return list(dict.fromkeys(line for split in said.values() for line in limits_of(split)))


def settings_lines(rows: Sequence[PlannedRow], profile: Profile) -> list[str]:
    """What is not at the methods' defaults: what the profile sets, then what single rows set."""
    rows = [row for row in rows if row.runs]
    common: dict[tuple[str, str], dict[str, str]] = {}
    own: dict[str, str] = {}
    for row in rows:
        shared, single = _changed(row, profile)
        common.setdefault((row.method.name, row.runs[0].plan.features), {}).update(shared)
        if single:
            preset = f"preset {row.spec.preset}: " if row.spec.preset else ""
            own[row.spec.name] = preset + _joined(single)
    names = [name for name, _ in common]
    told = [
        f"{name}{f' ({mode})' if names.count(name) > 1 else ''}: {_joined(values)}"
        for (name, mode), values in common.items()
        if values
    ]
    lines = []
    if told:
        lines.append(f"Set by the profile, not the methods' defaults: {'; '.join(told)}.")
    if own:
        rows_told = "; ".join(f"{name} ({values})" for name, values in own.items())
        lines.append(f"Single rows have other settings: {rows_told}.")
    if rows and not lines:
        lines.append("The methods' default settings and whole schedules.")
    trained = {run.plan.features for row in rows if row.method.trains for run in row.runs}
    if trained == {"stored"} or trained == {"live"}:
        lines.append("The backbone is frozen; in the paper it is trained too.")
    return lines


def _how_tuned(rows: Sequence[PlannedRow], profile: Profile) -> list[str]:
    """By what rule the rows were tuned, and which were not."""
    if not rows:
        return [f"Nothing was tuned here: {profile.no_val}."] if profile.no_val else []
    grids = [len(row.trials) for row in rows if len(row.trials) > 1]
    fixed = [row.spec.name for row in rows if len(row.trials) == 1]
    lines = []
    if grids:
        lines.append(
            f"Tuned: {len(grids)} rows by the highest macro-AP on the val episodes, each of "
            f"{min(grids)} to {max(grids)} trials with training seed 0; novel was run after that."
        )
    if fixed:
        lines.append(f"Not tuned, one trial on val: {', '.join(fixed)}.")
    return lines


def _changed(row: PlannedRow, profile: Profile) -> tuple[dict[str, str], dict[str, str]]:
    """(what the profile sets, what the row or its preset sets): all that is not as by default.

    A row that sets back to the default what the profile changes is named as the row's own.
    """
    name = row.method.name
    by_profile = dict(profile.settings.get(name, {}))
    if row.runs[0].plan.features == "end-to-end":
        by_profile |= profile.end_to_end.get(name, {})
    defaults = type(row.method.params)().model_dump(mode="json")
    common, single = {}, {}
    for key, value in row.method.params.model_dump(mode="json").items():
        given = by_profile.get(key)
        shared = key in by_profile and row.spec.settings.get(key, given) == given
        if shared and value != defaults[key]:
            common[key] = text_of(value)
        elif not shared and (value != defaults[key] or key in by_profile):
            single[key] = text_of(value)
    return common, single


def _joined(values: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _networks(rows: Sequence[PlannedRow]) -> list[str]:
    used: dict[str, str] = {}
    for row in rows:
        if row.runs:
            paper, here = row.spec.backbone, row.runs[0].plan.network
            used |= dict(zip(paper.split("+"), here.split("+"), strict=True))
    told = [f"{here} for {paper}" for paper, here in used.items() if paper != here]
    same = [paper for paper, here in used.items() if paper == here]
    lines = [f"Networks in place of the paper's: {', '.join(told)}."] if told else []
    if same:
        lines.append(f"The paper's networks: {', '.join(same)}.")
    return lines


def _embeddings(rows: Sequence[PlannedRow]) -> list[str]:
    used: dict[str, str] = {}
    own = False
    for row in rows:
        uses = row.method.needs_embeddings or (
            row.method.uses_embeddings and row.spec.embeddings is not None
        )
        if row.runs and uses:
            path = row.runs[0].plan.embeddings
            own = own or path is None
            if isinstance(path, Path):
                for name, file in zip(
                    str(row.spec.embeddings).split(JOIN), sources(path), strict=True
                ):
                    used[name] = file.name
    lines = [f"{name}: {file}" for name, file in used.items()]
    told = [f"Label embeddings: {', '.join(lines)}."] if lines else []
    return told + (["Label embeddings: the dataset's own, not the paper's."] if own else [])


def how_to_read(table: ReproducedTable) -> list[str]:
    """What the numbers of a table are."""
    lines = [
        "All in per cent. `measured`: mean over training seeds of the mean over episodes, F1 from "
        "each episode's own P and R; ± is the half width of a 95 % interval over images (other "
        "images of the same kind, in pools of the same size; the .csv and .json also have the "
        "shorter one over episodes) of the mean over seeds, and says nothing of other seeds. "
        "`seeds`: lowest and highest mean of a training seed."
    ]
    if any(row.name == table.reference and row.runs for row in table.rows):
        lines.append(
            f"`paired`: measured minus the row {table.reference!r}, episode by episode (mean over "
            "seeds in each); ± is the half width of a 95 % interval over images."
        )
    if table.ranked:
        rows = sum(bool(row.runs) for row in table.rows)
        lines.append(
            "`rank`: 1 + the number of rows significantly above. Two rows are compared by the "
            "interval over images of their paired difference (two-sided, normal), after Holm over "
            f"all {rows * (rows - 1) // 2} pairs of a metric at level {LEVEL}; rows that tie share "
            "a rank."
        )
    short = [f"{r.name} ({note})" for r in table.rows for note in r.notes if "first " in note]
    if short:
        lines.append(
            f"Not on all episodes: {', '.join(short)}; such rows are paired over the episodes they "
            "share with the reference."
        )
    return lines


def _literature(table: ReproducedTable) -> list[str]:
    if table.published is None:
        return []
    paper = read_published(table.published)
    source, place = paper.source, f"Table {paper.table}" if paper.table else paper.section
    cells = [cell for row in table.rows for cell in row.cells.values()]
    if any(cell.difference is not None for cell in cells):
        said = (
            "`difference`, measured minus published, stands where data set, protocol and backbone "
            "are the same; the episodes are others, so it does not test the published value."
        )
    else:
        said = "No row has a `difference` to it: data set, protocol or backbone is another."
    return [
        f"`published`: {source.venue} {source.year}, {place} ({source.authors.split(',')[0]} et "
        f"al.), on {paper.dataset}; nothing in these cells was computed here. {said}"
    ]
