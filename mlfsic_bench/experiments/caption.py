"""What must be said below a reproduced table, from the records of its runs."""

from __future__ import annotations

from collections.abc import Sequence

from mlfsic_bench.experiments.plan import Options, PlannedRow
from mlfsic_bench.experiments.results import Result
from mlfsic_bench.experiments.schema import Profile, text_of
from mlfsic_bench.metrics.chance import chance_levels
from mlfsic_bench.results.captions import count_labels
from mlfsic_bench.results.runs import FinishedRun


def caption_of(result: Result, profile: Profile, options: Options) -> tuple[str, ...]:
    """Sentences on data, substitutes, schedules, seeds, intervals and what can't be compared."""
    runs = result.runs()
    lines = [f"Profile {options.dataset}: {profile.about}."]
    lines += data_lines(runs)
    rows = [row.planned for row in result.rows if row.runs]
    lines += _networks(rows)
    lines += _embeddings(rows)
    lines += settings_lines(rows, profile)
    lines += _figures(result)
    lines += _literature(result)
    return tuple(lines)


def _labels(run: FinishedRun) -> str:
    split = run.record.split
    return count_labels(
        split.id, run.scores.meta.labels, subset=split.subset, of_record=run.record.subset
    )


def data_lines(runs: Sequence[FinishedRun]) -> list[str]:
    """Split, subset, episodes and chance of these runs; a line for each protocol."""
    longest: dict[str, FinishedRun] = {}
    for run in runs:
        protocol = run.record.episodes.drawn_by.title
        first = longest.setdefault(protocol, run)
        if run.record.episodes.count > first.record.episodes.count:
            longest[protocol] = run
    lines = []
    for protocol, run in longest.items():
        split, episodes = run.record.split, run.record.episodes
        micro, macro = chance_levels(run.answers.targets)
        # The level is of the episodes that were run, which need not be all.
        over = f" over the first {episodes.count}" if episodes.count < episodes.total else ""
        lines.append(
            f"Split {split.id} ({split.hash[:12]}), novel part: "
            f"{_labels(run)}; protocol {protocol}; "
            f"{episodes.total} episodes ({episodes.hash[:12]}); chance{over}: "
            f"macro-AP {100 * macro:.2f}, micro-AP {100 * micro:.2f}."
        )
    if any(run.record.split.subset for run in runs):
        lines.append("SUBSET: made on part of the split's images; not comparable to full runs.")
    return lines


def settings_lines(rows: Sequence[PlannedRow], profile: Profile) -> list[str]:
    """What is not at the methods' defaults: what the profile sets, then what single rows set."""
    rows = [row for row in rows if row.runs]
    common: dict[tuple[str, str], dict[str, str]] = {}
    own: dict[str, str] = {}
    for row in rows:
        ours, theirs = _changed(row, profile)
        common.setdefault((row.method.name, row.runs[0].plan.features), {}).update(ours)
        if theirs:
            preset = f"preset {row.spec.preset}: " if row.spec.preset else ""
            own[row.spec.name] = preset + _joined(theirs)
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
        lines.append(f"Rows with settings of their own: {rows_told}.")
    if rows and not lines:
        lines.append("The methods' default settings and whole schedules.")
    trained = {run.plan.features for row in rows if row.method.trains for run in row.runs}
    if trained == {"stored"} or trained == {"live"}:
        lines.append("The backbone is frozen; in the paper it is trained too.")
    return lines


def _changed(row: PlannedRow, profile: Profile) -> tuple[dict[str, str], dict[str, str]]:
    """(what the profile sets, what the row or its preset sets): all that is not as by default.

    A row that sets back to the default what the profile changes is told as the row's own.
    """
    name = row.method.name
    by_profile = dict(profile.settings.get(name, {}))
    if row.runs[0].plan.features == "end-to-end":
        by_profile |= profile.end_to_end.get(name, {})
    defaults = type(row.method.params)().model_dump(mode="json")
    ours, theirs = {}, {}
    for key, value in row.method.params.model_dump(mode="json").items():
        given = by_profile.get(key)
        shared = key in by_profile and row.spec.settings.get(key, given) == given
        if shared and value != defaults[key]:
            ours[key] = text_of(value)
        elif not shared and (value != defaults[key] or key in by_profile):
            theirs[key] = text_of(value)
    return ours, theirs


def _joined(values: dict[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


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
            if path is not None:
                used[str(row.spec.embeddings)] = path.name
    lines = [f"{name}: {file}" for name, file in used.items()]
    told = [f"Label embeddings: {', '.join(lines)}."] if lines else []
    return told + (["Label embeddings: the dataset's own, not the paper's."] if own else [])


def _figures(result: Result) -> list[str]:
    over = (
        "a 95 % interval over images (other images of the same kind, in pools of the same size; "
        "the .csv and .json also have the shorter one over episodes) of the mean over seeds, and "
        "says nothing of other seeds"
    )
    if result.no_images:
        over = (
            "a 95 % Student-t interval over episodes of the mean over seeds, and says nothing of "
            "other seeds or images; there is none over images, because "
            f"{result.no_images}"
        )
    lines = [
        "All in per cent. `ours`: mean over training seeds of the mean over episodes, F1 from each "
        f"episode's own P and R; ± is the half width of {over}. `seeds`: lowest and "
        "highest mean of a training seed."
    ]
    reference = result.experiment.reference
    if any(row.name == reference and row.runs for row in result.rows):
        lines.append(
            f"`paired`: ours minus the row {reference!r}, episode by episode (mean over seeds in "
            "each); ± is the half width of a 95 % "
            + ("paired t interval over episodes." if result.no_images else "interval over images.")
        )
    short = [
        f"{row.name} ({note})"
        for row in result.rows
        for note in row.notes
        if note.startswith("first ")
    ]
    if short:
        lines.append(
            "Not on all episodes: "
            + ", ".join(short)
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
