"""What the rows of a table are called, and the marks beside: what tells its runs apart."""

from __future__ import annotations

from collections.abc import Sequence

from mlfsic_bench.results.runs import FinishedRun


def names_of(runs: Sequence[FinishedRun]) -> list[str]:
    """Method names; where one stands twice, with what tells its runs apart."""
    names = [_label(run) for run in runs]
    return [
        name if names.count(name) == 1 else f"{name} ({_distinction(run, runs)})"
        for name, run in zip(names, runs, strict=True)
    ]


def marks_of(runs: Sequence[FinishedRun]) -> list[list[str]]:
    """For each run, what its features and words are, wherever the runs of the table differ."""
    told = []
    for run in runs:
        features, words = run.record.features, run.record.words
        marks = {}
        if features:
            trained = features.mode == "end-to-end"
            marks["backbone"] = features.backbone
            marks["weights"] = f"weights {features.weights} {features.weights_hash[:8]}"
            marks["mode"] = "trained end to end" if trained else "frozen backbone"
        if words and run.record.method.uses_words:
            marks["words"] = f"words {words.name}"
            marks["words hash"] = words.hash[:8]
        told.append(marks)
    order = ("backbone", "weights", "mode", "words", "words hash")
    differing = [m for m in order if len({marks[m] for marks in told if m in marks}) > 1]
    if "words" in differing:  # the names tell them apart already
        differing = [m for m in differing if m != "words hash"]
    if "backbone" in differing:
        differing = [m for m in differing if m != "weights"]
    return [[marks[m] for m in differing if m in marks] for marks in told]


def _label(run: FinishedRun) -> str:
    """The method's name; for a point of a learning curve, with its number of base images."""
    cut = run.record.base_images
    return run.record.method.name + (f", base_images={cut.used}" if cut else "")


def _distinction(run: FinishedRun, runs: Sequence[FinishedRun]) -> str:
    same = [other for other in runs if _label(other) == _label(run)]
    told = {id(other): _traits(other) for other in same}
    differing = [
        name
        for name in dict.fromkeys(name for traits in told.values() for name in traits)
        if len({traits.get(name, "") for traits in told.values()}) > 1
    ]
    own = told[id(run)]
    return ", ".join(f"{name}={own.get(name, '-')}" for name in differing) or run.record.key[:8]


def _traits(run: FinishedRun) -> dict[str, str]:
    record = run.record
    traits = {"preset": str(record.method.preset), "seed": str(record.method.seed)}
    traits |= {name: str(value) for name, value in record.method.parameters.items()}
    if record.features:
        traits |= {"backbone": record.features.backbone, "features": record.features.mode}
        traits["weights"] = record.features.weights_hash[:8]
    traits["words"] = record.words.name if record.words else "none"
    return traits
