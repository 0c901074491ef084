"""`score`: options that say where split and episodes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn import metrics as sk

from mlfsic_bench.analysis.score import score_files
from mlfsic_bench.episodes.files import draw_episodes
from mlfsic_bench.episodes.k_shot import LasoKShot
from mlfsic_bench.episodes.per_label import ONE_PER_LABEL
from mlfsic_bench.episodes.protocol import episode_set
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.results.targets import SplitPlace
from mlfsic_bench.splits.files import write_split
from mlfsic_bench.splits.resolve import resolve_file, resolve_split
from tests.analysis.foreign_scores import ROOT, SPLIT, drawn_from, foreign, refused, run
from tests.fakes.laso_world import SPLIT as LASO
from tests.fakes.laso_world import laso_root


@pytest.mark.parametrize("options", [{"available_only": True}, {"min_pool": 2}])
def test_a_part_of_a_split_is_named_by_its_file(options: dict[str, Any], tmp_path: Path) -> None:
    split = resolve_split(SPLIT["id"], data_root=None, **options)
    path = drawn_from(split, draw_episodes(ONE_PER_LABEL, split, "novel", 3), tmp_path / "a.npz")
    assert "name the file that `splits build` wrote" in refused(path)
    content = resolve_file(SPLIT["id"], data_root=None, **options)
    write_split(content, tmp_path / "part.json")
    assert "SUBSET" in run(path, "--split", tmp_path / "part.json")
    whole = foreign(tmp_path / "whole.npz")
    assert "the split found is not the one" in refused(whole, "--split", tmp_path / "part.json")


def test_the_options_that_name_split_and_episodes(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.npz")
    whole = run(path)
    assert run(path, "--split", ROOT / "splits" / f"{SPLIT['id']}.json") == whole
    assert "the split found is not the one" in refused(path, "--split", "voc-8-6-6-v1")
    official = ROOT / f"splits/{SPLIT['id']}.novel-episodes.json"
    assert run(path, "--episodes-file", official) == whole
    split = resolve_split(SPLIT["id"], data_root=None)
    turned = draw_episodes(ONE_PER_LABEL, split, "novel", 4).episodes[::-1]
    other = episode_set(ONE_PER_LABEL, split, "novel", turned)
    (tmp_path / "other.json").write_bytes(other.format())
    own = drawn_from(split, other, tmp_path / "own.npz")
    assert "the episodes found are not the ones" in refused(own)
    assert "micro_ap" in run(own, "--episodes-file", tmp_path / "other.json")


def test_runs_of_laso_and_a_data_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))  # nothing is remembered
    root = laso_root(tmp_path / "root")
    split = resolve_split(LASO, data_root=root)
    runs = draw_episodes(LasoKShot(2), split, "novel", 3)
    (tmp_path / "runs.json").write_bytes(runs.format())
    path = drawn_from(split, runs, tmp_path / "a.npz")
    assert "needs a data root" in refused(path)
    place = SplitPlace(data_root=root, episodes_file=tmp_path / "runs.json")
    report = score_files([path], place)
    assert (report.episodes.shots, report.targets) == (2, "rebuilt")
    novel = split.novel
    y = np.stack([novel.targets_of(runs.episodes[0].query)] * 3)
    s = read_scores(path).scores
    ap = [
        np.mean([sk.average_precision_score(b[:, k], a[:, k]) for k in range(16)])
        for a, b in zip(s, y, strict=True)
    ]
    assert report.files[0].metrics["macro_ap"].mean == pytest.approx(np.mean(ap), abs=1e-10)
    # all runs are tested on the same images, so other images would move all of them together
    figure = report.files[0].metrics["macro_ap"]
    assert figure.images > figure.episodes
    text = run(path, "--data-root", root, "--episodes-file", tmp_path / "runs.json")
    assert f"{100 * figure.mean:.2f}" in text
