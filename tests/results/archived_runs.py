"""Checks of an archived run: its episodes against its scores, its record against its episodes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from sklearn import metrics as sk

from mlfsic_bench.hashing import hash_file
from mlfsic_bench.metrics.episode import episode_metrics
from tests.results.archived import episodes_of, interval, record_of, same


def check_scores(run: Path) -> None:
    """episodes.csv follows from the raw scores beside it, to 1e-12."""
    record = record_of(run)
    for name in ("scores.npz", "answers.npz"):
        assert hash_file(run / name) == record["outputs"][name], run / name
    with np.load(run / "scores.npz") as file:
        scores = file["scores"]
        decisions = file.get("decisions", scores > 0)
    with np.load(run / "answers.npz") as file:
        targets = file["targets"]
    frame = episodes_of(run)
    ours = episode_metrics(scores, targets, decisions, names=list(frame))
    for column, expected in ours.items():
        found = frame[column]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=f"{run} {column}")
    for episode in range(0, len(scores), max(1, len(scores) // 5)):
        s, y, d = scores[episode], targets[episode], decisions[episode]
        expected = {"micro_ap": sk.average_precision_score(y, s, average="micro")}
        for average in ("micro", "macro"):
            p, r, *_ = sk.precision_recall_fscore_support(y, d, average=average, zero_division=0)
            expected |= {f"{average}_precision": p, f"{average}_recall": r}
            expected[f"{average}_f1"] = 2 * p * r / (p + r) if p + r else 0.0
        if y.any(axis=0).all():
            expected["macro_ap"] = sk.average_precision_score(y, s, average="macro")
        for column, number in expected.items():
            assert abs(frame[column][episode] - number) <= 1e-12, (
                f"{run}, episode {episode}, {column}"
            )


def check_means(run: Path) -> None:
    """The record's means and half widths are those of episodes.csv."""
    frame = episodes_of(run)
    metrics = record_of(run)["metrics"]
    assert metrics
    for name in set(metrics) & set(frame):
        mean, half = interval(frame[name])
        for key, number in (("mean", mean), ("half_width", half)):
            stored = metrics[name][key]
            same(None if stored is None else 100 * stored, number, f"{run}, {name}, {key}")


def check_record(run: Path) -> None:
    """A whole run of a clean commit, and nothing of somebody's disk."""
    record = record_of(run)
    assert record["status"] == "success", run
    assert re.fullmatch(r"[0-9a-f]{40}", record["provenance"]["commit"] or ""), run
    assert record["provenance"]["dirty"] is False, f"{run}: made from a changed checkout"
    for word in record["provenance"]["command"]:
        assert not re.search(r"(^|[=:,])(/|~|[A-Za-z]:[\\/])", word), f"{run}: {word}"
    text = (run / "record.json").read_text("utf-8")
    found = re.findall(r'"(?:/|file:)[^"]*"', text)
    assert not found, f"{run}: absolute paths {found}"
