"""`score`: the pages on its files, and files that describe themselves wrongly."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mlfsic_bench.analysis.estimates import Breakdown, Estimate, Group
from mlfsic_bench.analysis.score import (
    WRITERS,
    FileScore,
    ScoreReport,
    SeedsEstimate,
    SeedsScore,
    score_files,
)
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import SCHEMA_FILE, meta_schema
from tests.analysis.foreign_scores import LABELS, ROOT, SPLIT, E, L, Q, foreign


def example() -> str:
    page = (ROOT / "docs" / "scores-format.md").read_text("utf-8")
    return re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)[0]


def test_the_example_of_the_page_writes_a_file_that_is_scored(tmp_path: Path) -> None:
    lines = [line for line in example().splitlines() if line.strip()]
    assert len(lines) <= 22
    assert "mlfsic_bench" not in example()
    (tmp_path / "splits").mkdir()
    for name in (f"{SPLIT['id']}.json", f"{SPLIT['id']}.novel-episodes.json"):
        (tmp_path / "splits" / name).write_bytes((ROOT / "splits" / name).read_bytes())
    (tmp_path / "example.py").write_text(example(), encoding="utf-8")
    subprocess.run([sys.executable, "-W", "error", "example.py"], cwd=tmp_path, check=True)
    report = score_files([tmp_path / "scores.npz"])
    assert (report.files[0].run, report.episodes.count) == (None, 200)
    assert report.chance["macro_ap"] == pytest.approx(
        report.files[0].metrics["macro_ap"].mean, abs=0.02
    )


def test_the_schema_that_ships_is_that_of_the_code() -> None:
    for folder in ("mlfsic_bench/evaluation", "docs"):
        text = (ROOT / folder / SCHEMA_FILE).read_text("utf-8")
        assert text == meta_schema(), (
            f"python -m mlfsic_bench.evaluation.meta > {folder}/{SCHEMA_FILE}"
        )
    schema = json.loads(meta_schema())
    assert schema["required"] == ["episodes", "kind", "labels", "method", "schema_version", "split"]
    assert set(schema["$defs"]["MethodMeta"]["required"]) == {
        "name", "seed", "trains", "uses_words", "adapts_by_gradient"
    }  # fmt: skip
    page = (ROOT / "docs" / "scores-format.md").read_text("utf-8")
    for part in (schema, schema["$defs"]["MethodMeta"], schema["$defs"]["EpisodesMeta"]):
        assert all(f"`{key}`" in page for key in part["properties"])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"split": {"hash": "0" * 64}}, "the split found is not the one"),
        ({"split": {"rule": "strict"}}, "rule strict"),
        (
            {"split": {"subset": True}},
            "part of its images(.|\n)*all images(.|\n)*`splits build` wrote",
        ),
        ({"split": {"id": "scenes-12-6-6-v2"}}, "unknown split in a file 'scenes-12-6-6-v2'"),
        ({"split": {"id": "../../somewhere/split.json"}}, "unknown split in a file"),
        ({"episodes": {"hash": "0" * 64}}, "the episodes found are not the ones"),
        ({"episodes": {"protocol": "one_per_label-v2"}}, "one_per_label-v2"),
        ({"episodes": {"total": 199}}, "the episodes found are not the ones|total 200"),
        ({"episodes": {"total": 50_000}}, "total 50000|not drawn here|total 200"),
        ({"labels": LABELS[::-1]}, "other columns"),
        ({"labels": [*LABELS[:5], "else"]}, "other columns"),
        ({"episodes": {"count": 11}}, "11 episodes"),
        ({"episodes": {"part": "val"}}, "part"),
        ({"method": {"seed": "0"}}, "method.seed"),
        ({"method": {"lr": 1}}, "method.lr"),
        ({"base_images": {"used": 10, "of": 5}}, "at most the 5 base images"),
        ({"runn": None}, r"unknown key 'runn'(.|\n)*did you mean 'run'"),
    ],
)
def test_what_a_description_gets_wrong_is_said(
    changes: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    with pytest.raises(BenchError, match=reason):
        score_files([foreign(tmp_path / "a.npz", **changes)])


def test_missing_queries_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="a score for every query image"):
        score_files([foreign(tmp_path / "a.npz", np.zeros((E, Q - 1, L)))])


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz", method={"name": "=x|<b>[red]`"})
    report = score_files([path])
    assert "<b>" not in WRITERS["markdown"](report)
    assert "[red]" in WRITERS["text"](report)
    with pytest.raises(BenchError, match=r"U\+202E is one"):
        score_files([foreign(tmp_path / "b.npz", method={"name": "x\u202e"})])


def test_the_page_names_every_key_of_the_report() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text("utf-8")
    for model in (ScoreReport, FileScore, SeedsScore, Breakdown, Group, Estimate, SeedsEstimate):
        assert all(f"`{key}`" in page for key in model.model_fields), model
