"""The numbers of the literature that ship: their schema, and that they agree with each other."""

from __future__ import annotations

from mlfsic_bench.results.published import published_for, published_names, read_published


def test_published_files_fit_the_schema() -> None:
    names = published_names()
    assert [name for name in names if "table" in name] == [
        f"yan-2022-table{i}" for i in range(1, 7)
    ]
    sizes = {name: [len(row.values) for row in read_published(name).rows] for name in names}
    assert sizes["yan-2022-table1"] == sizes["yan-2022-table2"] == [8] * 8
    assert [len(sizes[f"yan-2022-table{i}"]) for i in (3, 4, 5, 6)] == [5, 7, 9, 2]


def test_published_numbers_agree_with_each_other() -> None:
    # The full model's COCO row stands in five tables.
    full = read_published("yan-2022-table1").rows[-1].values
    for name, row in {"3": -1, "4": 5, "5": 4, "6": 0}.items():
        other = read_published(f"yan-2022-table{name}").rows[row].values
        assert other == {metric: full[metric] for metric in ("macro_ap", "micro_ap")}
    # A mean of harmonic means is at most the harmonic mean of the means, up to rounding; the
    # paper's own exceptions are known, so a slip in the copy of any other cell shows here.
    broken = []
    for table in (1, 2):
        for row in read_published(f"yan-2022-table{table}").rows:
            for a in ("micro", "macro"):
                p, r, f = (row.values[f"{a}_{m}"] for m in ("precision", "recall", "f1"))
                if f > 2 * p * r / (p + r) + 0.01:
                    broken.append((table, row.name, a))
    assert broken == [(1, "ResNet-50", "macro"), (2, "ResNet-50", "macro"), (2, "LaSO", "micro")]


def test_published_rows_go_with_the_papers_splits() -> None:
    for split, table in (("coco-52-12-16-open-v1", 1), ("voc-8-6-6-strict-v1", 2)):
        found = published_for(split)
        assert found is not None
        assert found.table == table
    assert published_for("scenes-12-6-6-v1") is None
