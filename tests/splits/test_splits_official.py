"""Official counts of COCO: what is compared, what is named `-unofficial`, what no hash knows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.coco import COCO_CATEGORIES, Coco
from mlfsic_bench.data.coco_counts import ANCHORS, named
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import SplitMeta
from mlfsic_bench.evaluation.recall import recall_split, remember_split
from mlfsic_bench.leaderboard.entry import SplitRef
from mlfsic_bench.results.captions import limits_of, split_title
from mlfsic_bench.splits.build import build_file
from mlfsic_bench.splits.files import content_hash, read_split, read_split_file, write_split
from mlfsic_bench.splits.resolve import resolve_split, shipped_file
from tests.fakes.coco import write_coco

ID = "coco-52-12-16-open-v1"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coco(tmp_path_factory.mktemp("coco"))


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)


@pytest.fixture
def official(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts of the tiny COCO are the official ones."""
    counts = Coco(root).counts()
    monkeypatch.setattr(Coco, "anchors", replace(ANCHORS, counts=counts))


def call(*words: object) -> Result:
    done = CliRunner().invoke(cli, ["splits", *map(str, words)])
    if isinstance(done.exception, BenchError):
        raise done.exception
    return done


def test_the_counts_of_what_was_read(root: Path) -> None:
    found = Coco(root).counts()
    assert found.keys() == ANCHORS.counts.keys()
    assert len(found) == 4 + len(COCO_CATEGORIES)
    assert (found["images of train2014"], found["annotations of train2014"]) == (7, 13)
    assert (found["images of val2014"], found["annotations of val2014"]) == (5, 8)
    assert found["images of val2014 with 'vase'"] == 1  # a crowd counts
    assert found["images of val2014 with 'car'"] == 1  # two annotations, one image
    assert found["images of val2014 with 'cup'"] == 0
    twice = named({"val2014": 1}, {"val2014": 2}, {"car": 3})
    assert list(twice.values()) == [1, 2, 3]


def test_an_official_split(root: Path, official: None, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    done = call("build", ID, "--data-root", root, "--out", path)
    assert "compared with 84 official counts of COCO 2014" in done.stdout
    assert "all agree" in done.stdout
    assert "unofficial" not in done.output
    content = read_split_file(path)
    assert (content.id, content.differs_from_official) == (ID, [])
    with_data, alone = call("verify", path, "--data-root", root), call("verify", path)
    assert with_data.stdout.splitlines()[-1] == f"{path}: no differences"
    assert "no differences" not in alone.stdout
    assert "name the data root to compare them" in alone.stdout
    assert alone.stdout.splitlines()[-1].endswith("nothing official to compare with")
    assert (with_data.exit_code, alone.exit_code) == (0, 0)


def test_an_unofficial_split(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("build", ID, "--data-root", root)
    path = tmp_path / f"{ID}-unofficial.json"
    assert f"so the split is named {ID}-unofficial" in done.stderr
    assert "annotations of train2014: 13, officially 604,907; and 81 more" in done.stderr
    assert "unpack the official annotations_trainval2014.zip" in done.stderr.lower()
    assert json.loads(path.read_text())["id"] == f"{ID}-unofficial"
    assert "UNOFFICIAL: the annotations differ" in call("show", path).stdout
    value = json.loads(call("verify", path, "--data-root", root, "--format=json").stdout)
    assert (value["official"], value["differences"]) == ("no", [])
    assert value["compared"][-1].endswith(": 84 differ")


def test_the_hash_does_not_know_the_name(
    root: Path, official: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = build_file(shipped_file(ID), Coco(root))
    counts = {**Coco(root).counts(), "annotations of train2014": 14}
    monkeypatch.setattr(Coco, "anchors", replace(ANCHORS, counts=counts))
    bad = build_file(shipped_file(ID), Coco(root))
    assert (good.id, bad.id) == (ID, f"{ID}-unofficial")
    assert bad.differs_from_official == ["annotations of train2014: 13, officially 14"]
    assert good.hash == bad.hash == content_hash(bad)
    assert good.images == bad.images


def test_a_file_that_says_nothing_is_unofficial(root: Path, official: None, tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    call("build", ID, "--data-root", root, "--out", path)
    value = json.loads(path.read_text())
    del value["differs_from_official"]
    path.write_text(json.dumps(value))
    split = read_split(path)
    assert (split.id, split.plain_id, split.hash) == (f"{ID}-unofficial", ID, value["hash"])
    done = call("verify", path, "--data-root", root)
    assert "the file does not say that its annotations were compared" in done.stdout
    assert "no differences" not in done.stdout


def test_a_file_that_says_too_much_differs(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "s.json"
    call("build", ID, "--data-root", root, "--out", path)
    value = json.loads(path.read_text())
    path.write_text(json.dumps(value | {"differs_from_official": [], "id": ID}))
    assert read_split(path).id == ID
    done = call("verify", path, "--data-root", root)
    assert done.exit_code == 1
    assert "differs: images of train2014: 7, officially 82,783" in done.stdout
    definition = call("verify", ID, "--data-root", root)
    assert definition.exit_code == 1
    assert "differs: images of train2014: 7, officially 82,783" in definition.stdout


def test_the_ending_belongs_to_built_splits_with_official_counts(
    root: Path, tmp_path: Path
) -> None:
    path = tmp_path / "s.json"
    head = json.loads(call("show", ID, "--format=json").stdout) | {"hash": None}
    path.write_text(json.dumps(head | {"id": f"{ID}-unofficial"}))
    with pytest.raises(BenchError, match="never unofficial"):
        read_split_file(path)
    # one's own split of COCO says what differs, under its own name
    path.write_text(json.dumps(head | {"id": "mine-v1"}))
    done = call("build", path, "--data-root", root, "--out", tmp_path / "mine.json")
    assert "82,783" in done.stderr
    assert "so the split is named" not in done.stderr
    assert read_split(tmp_path / "mine.json").id == "mine-v1"
    voc = json.loads(call("show", "voc-8-6-6-v1", "--format=json").stdout)
    path.write_text(json.dumps(voc | {"id": "voc-8-6-6-v1-unofficial", "images": None}))
    with pytest.raises(BenchError):
        read_split_file(path)


def test_a_split_is_found_by_either_name(root: Path) -> None:
    one, two = (resolve_split(name, data_root=root) for name in (ID, f"{ID}-unofficial"))
    assert one.id == two.id == f"{ID}-unofficial"
    assert one.hash == two.hash
    with pytest.raises(BenchError, match="unknown split"):
        resolve_split("scenes-12-6-7-v1-unofficial", data_root=None)


def test_what_records_and_entries_say(root: Path) -> None:
    card = {"id": ID, "hash": "0" * 64, "dataset": "coco"}
    run = {**card, "rule": "open", "subset": False}
    old, new = SplitMeta.model_validate(run), SplitMeta.of(resolve_split(ID, data_root=root))
    assert old.id == new.id == f"{ID}-unofficial"
    assert "differs_from_official" not in old.model_dump()
    assert SplitMeta.model_validate(old.model_dump()) == old
    assert SplitMeta.model_validate(new.model_dump()) == new
    assert new.differs_from_official is not None
    assert len(new.differs_from_official) == 4  # three, and how many more
    whole = SplitMeta.model_validate(run | {"differs_from_official": []})
    assert (whole.id, limits_of(whole)) == (ID, [])
    (line,) = limits_of(old)
    assert line.startswith("UNOFFICIAL: nothing says")
    assert line.endswith(f"not comparable to runs on {ID}.")
    (line,) = limits_of(new)
    assert "images of train2014: 7, officially 82,783" in line
    assert split_title(old.id) == "COCO 52/12/16 (open, unofficial)"
    assert SplitRef.model_validate(card).id == f"{ID}-unofficial"
    assert SplitRef.model_validate(card | {"hash": None}).id == ID  # reported values
    voc = SplitMeta.model_validate(run | {"id": "voc-8-6-6-v1", "dataset": "voc"})
    own = SplitMeta.model_validate(run | {"id": "mine-v1"})
    assert (voc.id, own.id) == ("voc-8-6-6-v1", "mine-v1")


def test_what_was_compared_takes_the_place_of_what_was_not(
    root: Path, official: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    good = build_file(shipped_file(ID), Coco(root))
    old = good.model_copy(update={"differs_from_official": None, "id": f"{ID}-unofficial"})
    assert good.hash is not None
    for content, name in ((old, old.id), (good, ID), (old, ID)):
        remember_split(content)
        found = recall_split(good.hash)
        assert found is not None
        assert found.id == name
    write_split(old, tmp_path / "old.json")
    assert "differs_from_official" not in (tmp_path / "old.json").read_text()
