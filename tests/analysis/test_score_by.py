"""`score --by`: labels, cardinalities, support counts and pairs by scikit-learn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics as sk

from mlfsic_bench.analysis.breakdowns import auc_against
from mlfsic_bench.analysis.score import score_files
from tests.analysis.foreign_scores import DRAWN, HAS, LABELS, E, L, foreign, given, truth


def test_by_label_and_cardinality(tmp_path: Path) -> None:
    s, y = given("random")[0], truth()
    path = foreign(tmp_path / "a.npz", s)
    part = score_files([path], by="label").files[0].breakdown
    assert part is not None
    assert [group.name for group in part.groups] == LABELS
    for k, group in enumerate(part.groups):
        ap = [sk.average_precision_score(y[e, :, k], s[e, :, k]) for e in range(E)]
        recall = [sk.recall_score(y[e, :, k], s[e, :, k] > 0) for e in range(E)]
        assert group.values["ap"].mean == pytest.approx(np.mean(ap), abs=1e-10)
        assert group.values["recall"].mean == pytest.approx(np.mean(recall), abs=1e-10)
        assert group.values["ap"].images >= group.values["ap"].episodes
        assert group.counts == {"episodes": E, "positives": int(y[:, :, k].sum())}
    part = score_files([path], by="cardinality").files[0].breakdown
    assert part is not None
    size = np.minimum(y.sum(axis=2), 4)
    assert [group.name for group in part.groups] == [str(n) for n in np.unique(size)]
    for group in part.groups:
        chosen = size == int(group.name)
        rows = [e for e in range(E) if chosen[e].any()]
        each = [(y[e][chosen[e]], s[e][chosen[e]]) for e in rows]
        micro = [sk.average_precision_score(a.ravel(), b.ravel()) for a, b in each]
        f1 = [sk.f1_score(a, b > 0, average="micro", zero_division=0) for a, b in each]
        own = [sk.average_precision_score(a, b, average="samples") for a, b in each]
        assert group.values["micro_ap"].mean == pytest.approx(np.mean(micro), abs=1e-10)
        assert group.values["micro_f1"].mean == pytest.approx(np.mean(f1), abs=1e-10)
        assert group.values["ap_sample"].mean == pytest.approx(np.mean(own), abs=1e-10)
        assert group.counts == {"episodes": len(rows), "queries": int(chosen.sum())}


def test_by_support_count_and_pair(tmp_path: Path) -> None:
    s, y = given("tied")[0], truth()
    path = foreign(tmp_path / "a.npz", s)
    support = [[HAS[image] for image in e["support"]] for e in DRAWN["episodes"][:E]]
    shown = [[sum(k in image for image in images) for k in range(L)] for images in support]
    part = score_files([path], by="support-count").files[0].breakdown
    assert part is not None
    assert [group.name for group in part.groups] == sorted(
        {str(min(n, 4)) for row in shown for n in row}
    )
    for group in part.groups:
        rows = []
        for e in range(E):
            cells = [k for k in range(L) if min(shown[e][k], 4) == int(group.name)]
            if cells:
                rows.append(
                    np.mean([sk.average_precision_score(y[e, :, k], s[e, :, k]) for k in cells])
                )
        assert group.values["ap"].mean == pytest.approx(np.mean(rows), abs=1e-10)
        assert group.counts["episodes"] == len(rows)
    part = score_files([path], by="pair").files[0].breakdown
    assert part is not None
    pairs = {group.name: group for group in part.groups}
    for a in range(L):
        for b in range(L):
            both = int((y[:, :, a] & y[:, :, b]).sum())
            beside = [any(a in i and b in i for i in images) for images in support]
            name = f"{LABELS[a]} / {LABELS[b]}"
            if a == b or not (both or any(beside)):
                assert name not in pairs
                continue
            values = []
            for e in range(E):
                use = y[e, :, a] | y[e, :, b]
                one = y[e, use, a]
                values.append(
                    sk.roc_auc_score(one, s[e, use, a]) if 0 < one.sum() < use.sum() else np.nan
                )
            found = pairs[name]
            assert found.counts == {"queries_with_both": both, "episodes_shared": sum(beside)}
            assert found.values["auc"].mean == pytest.approx(np.nanmean(values), abs=1e-10)
            if any(beside):
                shared = np.nanmean(np.array(values)[beside])
                assert found.values["auc_shared"].mean == pytest.approx(shared, abs=1e-10)


def test_without_the_label_there_is_no_auc() -> None:
    y = np.array([[[1, 0], [0, 0]]], bool)
    assert np.isnan(auc_against(np.zeros((1, 2)), y[:, :, 1], y)).all()
