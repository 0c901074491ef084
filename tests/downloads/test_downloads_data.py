"""`mlfsic-bench data`, and the whole way from a download to the scores of a run."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.coco import COCO_CATEGORIES
from mlfsic_bench.data.voc import VOC_LABELS
from mlfsic_bench.downloads import items
from mlfsic_bench.downloads.download import RECORD
from mlfsic_bench.errors import BenchError
from mlfsic_bench.hashing import MIB
from mlfsic_bench.locks import BusyError, only_writer
from tests.downloads import hosts
from tests.downloads.hosts import Host, files_in, names_in, official
from tests.fakes.coco import write_coco
from tests.fakes.voc import write_voc

PARTS = {"base": 3, "val": 2, "novel": 3}  # labels of each
EACH = 6  # images of each label


def data(*words: object, code: int = 0) -> Result:
    found = CliRunner().invoke(cli, ["data", *map(str, words)])
    assert found.exit_code == code, found.output
    return found


def refused(*words: object) -> BenchError:
    with pytest.raises(BenchError) as caught:
        CliRunner().invoke(cli, ["data", *map(str, words)], catch_exceptions=False)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, bytes]]:
    """Archive -> path in it -> content, in the layout of the official ones."""
    top = tmp_path_factory.mktemp("made")
    labels = list(COCO_CATEGORIES.values())[: sum(PARTS.values())]
    shown = {i: [(labels[i % len(labels)], "box")] for i in range(EACH * len(labels))}
    train = {i: s for i, s in shown.items() if i % 2}
    write_coco(top, train, {i: s for i, s in shown.items() if not i % 2})
    voc = {
        f"{i:06d}": [(VOC_LABELS[i % sum(PARTS.values())], False)]
        for i in range(EACH * sum(PARTS.values()))
    }
    sets = (("VOC2007", "trainval"), ("VOC2007", "test"), ("VOC2012", "trainval"))
    for n, one in enumerate(sets):
        write_voc(top / str(n), {one: {name: o for name, o in voc.items() if int(name) % 3 == n}})
    return {
        "annotations_trainval2014.zip": files_in(top / "coco", "annotations"),
        "train2014.zip": files_in(top / "coco", "train2014"),
        "val2014.zip": files_in(top / "coco", "val2014"),
        "VOCtrainval_06-Nov-2007.tar": files_in(top / "0", "VOCdevkit"),
        "VOCtest_06-Nov-2007.tar": files_in(top / "1", "VOCdevkit"),
        "VOCtrainval_11-May-2012.tar": files_in(top / "2", "VOCdevkit"),
        "glove.6B.zip": {f"glove.6B.{d}d.txt": b"a 1\n" for d in (50, 100, 200, 300)},
    }


@pytest.fixture
def table(
    host: Host, made: dict[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch
) -> dict[str, items.Item]:
    """The table of items, with the loopback host and what it has."""
    names = ("coco-annotations", "coco-images", "voc2007", "voc2012", "glove-6b")
    found = {name: official(host, name, made) for name in names}
    (vectors,) = items.ITEMS["word2vec"].files
    found["word2vec"] = dataclasses.replace(
        items.ITEMS["word2vec"], files=(hosts.remote(host, vectors.name, b"vectors", like=vectors),)
    )
    monkeypatch.setattr(items, "ITEMS", found)
    return found


def test_a_download_says_what_it_does_and_a_second_one_does_nothing(
    host: Host, table: dict[str, items.Item], tmp_path: Path
) -> None:
    root = tmp_path / "data"  # made by the download
    planned = data("download", "voc2007", "--data-root", root, "--dry-run").stdout
    assert planned.count("unpacked, to ") == 2
    assert host.asked == []
    assert not root.exists()
    done = data("download", "voc2007", "--data-root", root)
    assert f"voc2007: complete, in {root / 'VOCdevkit'}" in done.stdout
    assert f"from {host.url}VOCtest_06-Nov-2007.tar" in done.stderr
    assert len(host.asked) == 2
    assert names_in(root / "VOCdevkit") == [
        *(".lock", "VOC2007", "VOCtest_06-Nov-2007.tar.sha256"),
        "VOCtrainval_06-Nov-2007.tar.sha256",
    ]
    again = data("download", "voc2007", "--data-root", root)
    assert again.stdout == f"voc2007: already there, in {root / 'VOCdevkit'}\n"
    assert len(host.asked) == 2


def test_data_unpacked_by_hand_and_archives_fetched_by_hand_count(
    host: Host, table: dict[str, items.Item], made: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    for path, content in made["annotations_trainval2014.zip"].items():  # in the root itself
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)
    assert "already there" in data("download", "coco-annotations", "--data-root", tmp_path).stdout
    (tmp_path / "glove.6B.zip").write_bytes(host.files["glove.6B.zip"])
    done = data("download", "glove-6b", "--data-root", tmp_path)
    assert "is there already, and is used" in done.stderr
    assert host.asked == []
    assert (tmp_path / "glove.6B.zip").stat().st_size  # it is not ours to remove
    assert (tmp_path / "glove.6B.300d.txt").read_bytes() == b"a 1\n"


def test_archives_can_be_kept_and_another_file_in_the_place_is_refused(
    host: Host, table: dict[str, items.Item], tmp_path: Path
) -> None:
    (tmp_path / "glove.6B.zip").write_bytes(b"another")
    error = refused("download", "glove-6b", "--data-root", tmp_path)
    assert "is not the official file" in error.what
    assert (tmp_path / "glove.6B.zip").read_bytes() == b"another"
    (tmp_path / "glove.6B.zip").unlink()
    data("download", "glove-6b", "--data-root", tmp_path, "--keep-archives")
    assert (tmp_path / "glove.6B.zip").read_bytes() == host.files["glove.6B.zip"]


def test_a_checksum_that_nobody_knows_is_recorded_and_compared(
    host: Host, table: dict[str, items.Item], tmp_path: Path
) -> None:
    (file,) = table["word2vec"].files
    said = data("download", "word2vec", "--data-root", tmp_path).stderr
    assert "no checksum of GoogleNews" in said
    assert file.name in (tmp_path / RECORD).read_text()
    assert "size and sha256" in data("verify", "word2vec", "--data-root", tmp_path).stdout
    (tmp_path / file.name).unlink()
    host.files[file.name] = b"Vectors"
    error = refused("download", "word2vec", "--data-root", tmp_path)
    assert "the sha256 " in error.found
    assert not (tmp_path / file.name).exists()


def test_an_archive_with_other_counts_leaves_the_place_as_it_was(
    host: Host, table: dict[str, items.Item], tmp_path: Path
) -> None:
    (file,) = table["glove-6b"].files
    less = dataclasses.replace(file, holds={"glove.6B.*d.txt": 5})
    table["glove-6b"] = dataclasses.replace(table["glove-6b"], files=(less,))
    error = refused("download", "glove-6b", "--data-root", tmp_path)
    assert "4 files glove.6B.*d.txt, not 5" in error.found
    assert names_in(tmp_path) == [".lock", "glove.6B.zip"]


def test_verify_names_what_differs(table: dict[str, items.Item], tmp_path: Path) -> None:
    root = ("--data-root", tmp_path)
    assert data("verify", *root).stdout == "nothing is there to compare\n"
    data("download", "coco", *root)
    fine = data("verify", *root).stdout
    assert "as it should be: the content of 24 files of train2014.zip" in fine
    assert "differs" not in fine
    first, second = sorted((tmp_path / "coco" / "train2014").iterdir())[:2]
    first.write_bytes(first.read_bytes()[:-1] + b"x")
    assert data("verify", *root, "--quick").stdout.count("as it should be") == 4
    changed = data("verify", "coco-images", *root, code=1).stdout
    assert "differs: the content of 24 files of train2014.zip: 1 of them are missing" in changed
    assert f"train2014/{first.name}" in changed
    first.write_bytes(b"")
    second.unlink()
    quick = data("verify", "coco-images", *root, "--quick", "--format", "json", code=1)
    (difference,) = json.loads(quick.stdout)["coco-images"]["differences"]
    assert difference == "the number of train2014/*.jpg, 24: there are 23"
    (tmp_path / "coco" / "train2014.zip.sha256").unlink()
    assert "not compared: the content" in data("verify", "coco-images", *root, code=1).stdout
    assert "partly there" in data("list", *root).stdout
    assert "train2014/*.jpg: 23 of 24" in data("where", "coco", *root).stdout
    data("download", "coco-images", *root)  # only what is lacking
    assert "differs" not in data("verify", *root).stdout


def test_too_small_a_disk_and_a_second_process(
    host: Host, table: dict[str, items.Item], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with only_writer(tmp_path), pytest.raises(BusyError):
        CliRunner().invoke(
            cli,
            ["data", "download", "glove-6b", "--data-root", str(tmp_path)],
            catch_exceptions=False,
        )
    free = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    assert "not enough space" in refused("download", "coco", "--data-root", tmp_path).what
    assert host.asked == []


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("download", "coc"), "unknown item"),
        (("where", "glove"), "unknown item"),
        (("download", "glove-6b"), "needs a data root"),
        (("verify", "glove-6b"), "needs a data root"),
        (("download", "glove-6b", "--data-root", "x", "--mirror", "ftp://x"), "the mirror"),
    ],
)
def test_bad_words(
    words: tuple[str, ...], what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    assert what in refused(*words).what
    assert names_in(tmp_path) == []


def test_list_and_where_without_a_data_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFSIC_DATA", raising=False)
    rows = json.loads(data("list", "--format", "json").stdout)
    assert [row["name"] for row in rows] == list(items.ITEMS)
    assert all(row["terms"] and row["urls"][0] for row in rows)
    assert "no data root is named" in data("where", "coco").stdout


def test_weights_are_put_where_torch_looks(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torchvision

    for network in ("resnet50", "resnet101", "vit_b_16"):
        (file,) = items.ITEMS[f"{network}-weights"].files
        weights = torchvision.models.get_model_weights(network).IMAGENET1K_V1
        assert file.hosts[0] + file.name == weights.url
        if file.size is not None:
            assert file.size / MIB == pytest.approx(weights.meta["_file_size"], abs=1e-3)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    item = items.ITEMS["resnet50-weights"]
    mine = hosts.remote(host, item.files[0].name, b"weights", like=item.files[0])
    monkeypatch.setattr(
        items, "ITEMS", {"resnet50-weights": dataclasses.replace(item, files=(mine,))}
    )
    data("download", "resnet50-weights")
    assert (Path(torch.hub.get_dir()) / "checkpoints" / mine.name).read_bytes() == b"weights"


def test_the_commands_of_the_page(host: Host, table: dict[str, items.Item], tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
    lines = "".join(re.findall(r"```bash\n(.*?)```", page, re.S)).splitlines()
    assert len(lines) >= 6
    for line in lines:
        line = line.replace("https://mirror.example.org/datasets", host.url)
        data(*line.replace("DATA", str(tmp_path)).split()[2:])
    assert all(f"| `{name}` |" in page for name in table)  # the rows of the page are the items
    data("verify", "coco", "voc", "glove-6b", "--data-root", tmp_path)
    if shutil.which("sha256sum"):
        command = ["sha256sum", "--check", "--quiet", "train2014.zip.sha256"]
        assert not subprocess.run(command, cwd=tmp_path / "coco", check=False).returncode


@pytest.mark.parametrize(
    ("dataset", "split"), [("coco", "coco-52-12-16-open-v1"), ("voc", "voc-8-6-6-v1")]
)
def test_from_the_download_to_the_scores(
    host: Host, table: dict[str, items.Item], tmp_path: Path, dataset: str, split: str
) -> None:
    root = tmp_path / "data"
    for names in host.files:  # each is cut once, and the first host is dead
        host.faults[names] = [hosts.cut(len(host.files[names]) // 2)]
    data("download", dataset, "--data-root", root, "--mirror", "http://127.0.0.1:1")

    def bench(*words: object) -> str:
        found = CliRunner().invoke(cli, list(map(str, words)), catch_exceptions=False)
        assert found.exit_code == 0, found.output
        return found.stdout

    definition = json.loads(bench("splits", "show", split, "--format", "json"))
    labels = list(COCO_CATEGORIES.values()) if dataset == "coco" else list(VOC_LABELS)
    for part, count in PARTS.items():
        definition["labels"][part] = [labels.pop(0) for _ in range(count)]
    definition |= {"id": "small-v1", "hash": None, "counts": None}
    (tmp_path / "small.json").write_text(json.dumps(definition))
    built = tmp_path / "built.json"
    bench("splits", "build", tmp_path / "small.json", "--data-root", root, "--out", built)
    bench("run", "protonet", "--split", built, "--data-root", root, "--backbone", "scenes-small",
          "--episodes", 3, "--cache", tmp_path / "cache", "--out", tmp_path / "run")  # fmt: skip
    assert "ProtoNet" in bench("table", tmp_path / "run", "--data-root", root, "--split", built)
