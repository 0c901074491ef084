"""Experiment files and profiles: what is refused, and that the shipped ones are whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlfsic_bench.errors import BenchError
from mlfsic_bench.experiments.plan import Options, plan_rows
from mlfsic_bench.experiments.schema import (
    Profiles,
    checked,
    experiment_names,
    find_profile,
    read_experiment,
    read_profiles,
)
from mlfsic_bench.features.backbones.registry import backbone_names, parse_spec, split_name
from mlfsic_bench.methods.registry import find_method
from mlfsic_bench.results.published import read_published
from mlfsic_bench.splits.resolve import shipped_ids

GOOD = """
schema_version: 1
kind: table
title: Mine
reference: A
rows:
  - name: A
    method: random
  - name: B
    method: protonet
"""


def error_of(text: str, folder: Path) -> str:
    path = folder / "mine.yaml"
    path.write_text(text)
    with pytest.raises(BenchError) as caught:
        read_experiment(str(path))
    return str(caught.value)


def test_a_file_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(GOOD)
    name, experiment = read_experiment(str(path))
    assert name == "mine"
    assert [row.method for row in experiment.rows] == ["random", "protonet"]
    assert experiment.columns == ["macro_ap", "micro_ap"]


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("method: random", "methode: random", "did you mean 'method'"),
        ("title: Mine", "titel: Mine", "did you mean 'title'"),
        ("kind: table", "kind: tabel", "kind"),
        ("schema_version: 1", "schema_version: 2", "schema_version"),
        ("reference: A", "reference: C", "'C' is no row"),
        ("method: random", "method: random\n    base_labels: 0", "rows.0.base_labels"),
        ("name: B", "name: A", "two rows are called 'A'"),
        ("name: B", "name: 'B, C'", "rows.1.name"),
        ("method: random", "method: random\n    episodes: 0", "rows.0.episodes"),
        ("method: random", "method: random\n    method: prior", "twice"),
        ("method: random", "method: &m random", ""),
        ("title: Mine", "title: Mine\npictures: [0]", "kind: attention"),
        ("title: Mine", "title: Mine\nbase_images: {scenes: [10]}", "kind: curve"),
        ("title: Mine", "title: Mine\ncolumns: [macro_app]", "columns.0"),
        ("title: Mine", "title: !!python/object:os.system {}", "plain YAML"),
        ("method: random", "method: random\n    shots: 5", "the same in every row"),
        (
            "reference: A\nrows:\n",
            "part: val\nrows:\n  - {name: C, method: prior, shots: 5}\n",
            "part: val has episodes",
        ),
    ],
)
def test_what_is_refused(old: str, new: str, says: str, tmp_path: Path) -> None:
    text = GOOD.replace(old, new)
    if says:
        assert says in error_of(text, tmp_path)
    else:  # an anchor alone is harmless; it is its use that is refused
        assert "aliases" in error_of(text.replace("method: protonet", "method: *m"), tmp_path)


def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    assert "did you mean 'table1'" in _error("tabel1")
    assert "not a readable experiment file" in _error(str(tmp_path / "none.yaml"))
    assert "not a readable experiment file" in _error(_folder(tmp_path / "folder.yaml"))
    (tmp_path / "big.yaml").write_bytes(b"#" * (1 << 21))
    assert "65536 bytes" in _error(str(tmp_path / "big.yaml"))
    (tmp_path / "latin.yaml").write_bytes(b"title: \xff")
    assert "plain YAML" in _error(str(tmp_path / "latin.yaml"))


def _folder(path: Path) -> str:
    path.mkdir()
    return str(path)


def _error(name: str) -> str:
    with pytest.raises(BenchError) as caught:
        read_experiment(name)
    return str(caught.value)


def test_an_unknown_key_of_a_profile_names_the_nearest() -> None:
    profile = {"about": "a", "split": "s", "seeds": {"trained": 1}, "backbones": {"a": "b"}}
    value = {"schema_version": 1, "profiles": {"x": {**profile, "backbons": {}}}}
    with pytest.raises(BenchError, match="did you mean 'backbones'"):
        checked(value, Profiles, "the profiles")


def test_an_unknown_profile_names_the_nearest() -> None:
    with pytest.raises(BenchError, match="did you mean 'scenes'"):
        find_profile("scene")


def test_every_published_row_of_a_table_stands_in_its_experiment() -> None:
    assert {f"table{n}" for n in range(1, 7)} <= set(experiment_names())
    for name in experiment_names():
        _, experiment = read_experiment(name)
        if experiment.published is None:
            continue
        known = {row.name: row for row in read_published(experiment.published).rows}
        named = [row.published for row in experiment.rows if row.published]
        assert len(named) == len(set(named)), name
        assert set(named) == set(known), name
        columns = {column for row in known.values() for column in row.values}
        assert columns <= set(experiment.columns), name


def test_what_profiles_and_experiments_name_exists() -> None:
    profiles = read_profiles()
    for label, profile in profiles.profiles.items():
        assert profile.split in shipped_ids(), label
        for network in profile.backbones.values():
            parse_spec(network)
        for settings in (profile.settings, profile.end_to_end, profile.seeds.methods):
            for method in settings:
                assert find_method(method).name == method
    for name in experiment_names():
        _, experiment = read_experiment(name)
        for label in (*experiment.splits, *experiment.not_on, *experiment.base_images):
            assert label in profiles.profiles, (name, label)
        assert set(experiment.splits.values()) <= set(shipped_ids()), name
        for row in experiment.rows:
            # one with a text side: what it is, only the profiles of the paper's data say
            assert set(split_name(row.backbone)) <= {*backbone_names(), "clip"}


@pytest.mark.parametrize("name", experiment_names())
@pytest.mark.parametrize("dataset", sorted(read_profiles().profiles))
def test_every_experiment_can_be_planned_or_says_why_not(
    name: str, dataset: str, tmp_path: Path
) -> None:
    _, experiment = read_experiment(name)
    options = Options(dataset, data_root=tmp_path)
    if dataset in experiment.not_on:
        with pytest.raises(BenchError, match="can't be reproduced"):
            plan_rows(experiment, find_profile(dataset), options)
        return
    rows = plan_rows(experiment, find_profile(dataset), options)
    assert all(bool(row.runs or row.trials) != bool(row.not_run) for row in rows)
    if dataset == "scenes":  # nothing but text sides is missing where nothing is downloaded
        assert {row.spec.backbone for row in rows if row.not_run} <= {"clip"}
