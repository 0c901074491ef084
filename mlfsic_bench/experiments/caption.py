"""What must be said below a reproduced table, from the records of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from mlfsic_bench.experiments.plan import Options, PlannedRow
from mlfsic_bench.experiments.results import Result
from mlfsic_bench.experiments.schema import Profile, text_of
from mlfsic_bench.experiments.status import same_code
from mlfsic_bench.report.runs import FinishedRun
from mlfsic_bench.report.table import chance_level


def caption_of(result: Result, profile: Profile, options: Options) -> tuple[str, ...]:
    """Sentences on data, substitutes, schedules, seeds, intervals and what can't be compared."""
    runs = result.runs()
    lines = [f"Profile {options.dataset}: {profile.about}."]
    lines += data_lines(runs)
    rows = [row.planned for row in result.rows if row.runs]
    lines += _networks(rows)
    lines += _words(rows)
    lines += settings_lines(rows, profile)
    lines += _other_code(result)
    lines += _figures(result)
    lines += _literature(result)
    return tuple(lines)


def data_lines(runs: Sequence[FinishedRun]) -> list[str]:
    """Split, subset, episodes and chance of these runs; a line for each protocol."""
    lines: list[str] = []
    for run in {run.record.episodes.shots: run for run in reversed(runs)}.values():
        record = run.record
        micro, macro = chance_level(run)
        shots = f", {record.episodes.shots}-shot" if record.episodes.shots else ""
        total = record.episodes.total
        lines.append(
            f"Split {record.split.id} ({record.split.hash[:12]}), novel part: "
            f"{len(run.scores.meta.labels)} labels; protocol {record.episodes.protocol}{shots}; "
            f"{total} episodes ({record.episodes.hash[:12]}); chance: macro-AP {100 * macro:.2f}, "
            f"micro-AP {100 * micro:.2f}."
        )
    lines = lines[::-1]
    if any(run.record.split.subset for run in runs):
        lines.append("SUBSET: made on part of the split's images; not comparable to full runs.")
    return lines


def settings_lines(rows: Sequence[PlannedRow], profile: Profile) -> list[str]:
    """What the profile sets in place of defaults, for the methods of these rows."""
    names = dict.fromkeys(row.method.name for row in rows if row.runs)
    told = []
    for name in names:
        values = dict(profile.settings.get(name, {}))
        modes = {run.plan.features for r in rows if r.method.name == name for run in r.runs}
        if "end-to-end" in modes:
            values |= profile.end_to_end.get(name, {})
        if values:
            told.append(f"{name}: " + ", ".join(f"{k}={text_of(v)}" for k, v in values.items()))
    lines = [f"Set by the profile, not the methods' defaults: {'; '.join(told)}."] if told else []
    if not told:
        lines = ["The methods' default settings and whole schedules."]
    trained = {run.plan.features for row in rows if row.method.trains for run in row.runs}
    if trained == {"stored"} or trained == {"live"}:
        lines.append("The backbone is frozen; in the paper it is trained too.")
    return lines


def _other_code(result: Result) -> list[str]:
    """Which rows another state of the code has made (--accept-other-code)."""
    told = []
    for row in result.rows:
        other = [r.record for r in row.runs if not same_code(r.record, row.planned.spec.method)]
        if other:
            commits = sorted({(r.provenance.commit or "no commit")[:10] for r in other})
            told.append(f"{row.name} ({', '.join(commits)})")
    return [f"Rows made by another state of the code: {'; '.join(told)}."] if told else []


def _networks(rows: Sequence[PlannedRow]) -> list[str]:
    used: dict[str, str] = {}
    for row in rows:
        if row.runs:
            theirs, ours = row.spec.backbone, row.runs[0].plan.backbone
            used |= dict(zip(theirs.split("+"), ours.split("+"), strict=True))
    told = [f"{ours} for {theirs}" for theirs, ours in used.items() if theirs != ours]
    same = [theirs for theirs, ours in used.items() if theirs == ours]
    lines = [f"Networks in place of the paper's: {', '.join(told)}."] if told else []
    if same:
        lines.append(f"The paper's networks: {', '.join(same)}.")
    return lines


def _words(rows: Sequence[PlannedRow]) -> list[str]:
    used: dict[str, str] = {}
    own = False
    for row in rows:
        if row.runs and row.method.needs_words:
            path = row.runs[0].plan.words
            own = own or path is None
            if path is not None:
                used[str(row.spec.words)] = path.name
    lines = [f"{name}: {file}" for name, file in used.items()]
    told = [f"Label vectors: {', '.join(lines)}."] if lines else []
    return told + (["Label vectors: the dataset's own, not the paper's."] if own else [])


def _figures(result: Result) -> list[str]:
    lines = [
        "All in per cent. `ours`: mean over training seeds of the mean over episodes, F1 from each "
        "episode's own P and R; ± is the half width of a 95 % Student-t interval over episodes of "
        "the mean over seeds, and says nothing of other seeds or images. `seeds`: lowest and "
        "highest mean of a training seed."
    ]
    reference = result.experiment.reference
    if any(row.name == reference and row.runs for row in result.rows):
        lines.append(
            f"`paired`: ours minus the row {reference!r}, episode by episode (mean over seeds in "
            "each), with a 95 % paired t interval over episodes."
        )
    short = [row for row in result.rows if any(note.startswith("first ") for note in row.notes)]
    if short:
        lines.append(
            "Not on all episodes: "
            + ", ".join(f"{row.name} ({row.notes[-1]})" for row in short)
            + "; such rows are paired over the episodes they share with the reference."
        )
    return lines


def _literature(result: Result) -> list[str]:
    if result.published is None:
        return []
    source, table = result.published.source, result.published.table
    place = f"Table {table}" if table else result.published.section
    return [
        f"`published`: {source.venue} {source.year}, {place} ({source.authors.split(',')[0]} et "
        f"al.), on {result.published.dataset}; nothing in these cells was computed here. "
        "`difference` is ours minus published. The two were made on other episodes, and with "
        "another split, network, training or dataset wherever a line above says so: the "
        "difference is no test of the paper's figure."
    ]
