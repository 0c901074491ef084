"""Damaged files of every kind: read as what was meant, or one BenchError, with little memory."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlfsic_bench.episodes.protocol import EpisodeSet
from mlfsic_bench.errors import BenchError
from tests.hostile.mutations import damaged_bytes, damaged_json
from tests.hostile.npz import archive, header, members, raw_npy
from tests.hostile.sound import STORE_IDS, write_sound
from tests.searches import examples

pytestmark = pytest.mark.slow

Folders = pytest.TempPathFactory

MEMORY = 100 << 20  # bytes that Python and NumPy may allocate for one small file
FUZZ = settings(examples(60), suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: Folders) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_sound(folder)
    return folder


def outcome(read: Callable[[], Any]) -> Any:
    """What the reader gives, or None for a BenchError, which must name all four parts."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tracemalloc.start()
    try:
        return read()
    except BenchError as error:
        check(error)
        return None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert peak < MEMORY
        unit = 1 if sys.platform == "darwin" else 1024
        assert (after - before) * unit < 4 * MEMORY


def check(error: BenchError) -> None:
    assert all((error.what, error.expected, error.found, error.remedy))
    assert len(str(error)) < 5000


def fuzz(data: st.DataObject, path: Path, strategy: Any, read: Callable[[], Any]) -> Any:
    """Write a damaged file at `path` and read it."""
    content = data.draw(strategy)
    path.write_bytes(content)
    return outcome(read)


@FUZZ
@given(data=st.data())
def test_scores(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.evaluation.scores import Scores, read_scores

    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    result = fuzz(
        data, path, damaged_bytes((sound / "scores.npz").read_bytes()), lambda: read_scores(path)
    )
    if result is not None:
        assert isinstance(result, Scores)
        assert np.isfinite(result.scores).all()
        whole = read_scores(sound / "scores.npz")
        assert np.array_equal(result.scores, whole.scores)  # each member has a check sum


@FUZZ
@given(data=st.data())
def test_headers(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.evaluation.scores import read_scores

    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    side = st.sampled_from(
        (-1, 0, 1, 2, 3, 6, 24, 1 << 30, 1 << 31, 1 << 62, 1 << 70, True, None, 1.5, "3")
    )
    kind = st.sampled_from("bfiuSUOVMmc?a") | st.characters(max_codepoint=255)
    sizes = st.sampled_from(
        ("", "0", "1", "2", "4", "8", "16", "3", "999999999", "536870912", "-4", "04")
    )
    order = st.sampled_from("<>|=@") | st.just("")
    descr = st.builds(lambda o, k, s: o + k + s, order, kind, sizes) | st.sampled_from(
        ("<f4", [("a", "<f4")], None, 7, "f4", "float32", "<f4,<f4", "<M8[ns]", "(2,)<f4")
    )
    shapes = st.lists(side, max_size=6).map(tuple) | st.just((3, 24, 6)) | st.just([3, 24, 6])
    text = header(
        data.draw(descr), data.draw(shapes), data.draw(st.sampled_from((False, True, 0, None)))
    )
    member = raw_npy(
        data.draw(
            st.just(text.encode("latin1", "replace"))
            | damaged_bytes(text.encode("latin1", "replace"))
        ),
        bytes(data.draw(st.sampled_from((0, 4, 1728, 3456)))),
    )
    archive(path, {**members(sound / "scores.npz"), "scores.npy": member})
    result = outcome(lambda: read_scores(path))
    if result is not None:
        assert result.scores.shape == (3, 24, 6)
        assert result.scores.dtype == np.float32


@FUZZ
@given(data=st.data())
def test_descriptions(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.evaluation.scores import read_scores

    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    with np.load(sound / "scores.npz") as file:
        text = str(file["meta"])
    changed = data.draw(damaged_json(text)).decode("utf-8", "surrogateescape") or " "
    codes = np.frombuffer(changed.encode("utf-32-le", "surrogatepass"), "<u4")
    member = raw_npy(header(f"<U{len(codes)}", ()), codes.tobytes())
    archive(path, {**members(sound / "scores.npz"), "meta.npy": member})
    result = outcome(lambda: read_scores(path))
    if result is not None:
        given_meta = json.loads(changed.rstrip("\0"))
        assert result.meta.labels == given_meta["labels"]
        assert result.meta.method.seed == given_meta["method"]["seed"]


@FUZZ
@given(data=st.data())
def test_answers(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.evaluation.scores import read_targets

    path = tmp_path_factory.getbasetemp() / "fuzz.npz"
    result = fuzz(
        data, path, damaged_bytes((sound / "targets.npz").read_bytes()), lambda: read_targets(path)
    )
    if result is not None:
        assert np.array_equal(result.targets, read_targets(sound / "targets.npz").targets)


def _json_reader(name: str) -> tuple[Path, Callable[[Path], Any], Callable[[Any], Any]]:
    """(the sound file, its reader, what the reader's value is as a JSON value, or part of it)."""
    from mlfsic_bench.episodes.files import read_file
    from mlfsic_bench.evaluation.record import read_record
    from mlfsic_bench.features.store.manifest import read_manifest
    from mlfsic_bench.leaderboard.entry import read_entry
    from mlfsic_bench.splits.files import read_split_file

    readers: dict[str, tuple[str, Callable[[Path], Any], Callable[[Any], Any]]] = {
        "split": ("split.json", read_split_file, lambda v: {"id": v.id, "hash": v.hash}),
        "episodes": (
            "episodes.json",
            read_file,
            EpisodeSet.body,
        ),
        "runs": ("runs.json", read_file, EpisodeSet.body),
        "entry": (
            "results/leaderboard/fake-4-3-3-v1/printed.json",
            read_entry,
            lambda v: {"id": v.id, "name": v.name, "backbone": v.backbone},
        ),
        "record": (
            "run/record.json",
            lambda path: read_record(path.parent),
            lambda v: {"key": v.key, "status": v.status},
        ),
        "manifest": (
            "store/manifest.json",
            lambda path: read_manifest(path.parent),
            lambda v: v.as_json(),
        ),
    }
    file, read, shown = readers[name]
    return Path(file), read, shown


@pytest.mark.parametrize("name", ["split", "episodes", "runs", "entry", "record", "manifest"])
@FUZZ
@given(data=st.data())
def test_json(name: str, data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    file, read, shown = _json_reader(name)
    path = tmp_path_factory.getbasetemp() / "fuzz" / file.name
    path.parent.mkdir(exist_ok=True)
    result = fuzz(data, path, damaged_json(_small(sound / file)), lambda: read(path))
    if result is not None:
        written = json.loads(path.read_bytes())
        for key, value in shown(result).items():
            assert written.get(key) == value, key


def _small(path: Path) -> str:
    """The file's text; lists of images are cut, so that most examples still read quickly."""
    value = json.loads(path.read_text())
    if "images" in value and isinstance(value["images"], dict) and "novel" in value["images"]:
        from mlfsic_bench.splits.files import content_hash, count_images, parse_split, render

        value["images"] = {part: rows[:20] for part, rows in value["images"].items()}
        content = parse_split(value, "small")
        content = content.model_copy(update={"counts": count_images(content)})
        return render(content.model_copy(update={"hash": content_hash(content)}))
    return json.dumps(value)


@pytest.mark.parametrize("name", ["experiment.yaml", "card.yaml"])
@FUZZ
@given(data=st.data())
def test_yaml(name: str, data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.experiments.schema import read_experiment
    from mlfsic_bench.leaderboard.card import read_card

    path = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    text = (sound / name).read_bytes()
    pieces = st.sampled_from(
        (
            b"!!bool x",
            b"!!int ''",
            b"&a ",
            b"*a",
            b"<<: {a: b}\n",
            b"? ",
            b"- ",
            b": ",
            b"\t",
            b"{",
            b"[",
            b"!!python/name:os.system",
            b"0x" + b"f" * 5000,
            b".inf",
            b"1:" * 50 + b"1",
            b"|\n",
            b"'",
            b"%YAML 9.9\n",
        )
    )
    at = st.integers(0, len(text))
    spliced = st.builds(lambda a, p, b: text[:a] + p + text[b:], at, pieces, at)
    read = (
        (lambda: read_experiment(str(path)))
        if name == "experiment.yaml"
        else (lambda: read_card(path))
    )
    fuzz(data, path, damaged_bytes(text) | spliced, read)


@pytest.mark.parametrize("name", ["words.txt", "words.bin"])
@FUZZ
@given(data=st.data())
def test_words(name: str, data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    import gzip

    from mlfsic_bench.embeddings.label_embeddings import load_embeddings

    path = tmp_path_factory.getbasetemp() / "fuzz.words"
    text = (sound / name).read_bytes()
    headers = st.sampled_from((b"3 3\n", b"999999999999 3\n", b"3 99999\n", b"0 0\n", b"-1 3\n"))
    strategy = (
        damaged_bytes(text)
        | headers.map(lambda line: line + text)
        | damaged_bytes(gzip.compress(text))
    )
    result = fuzz(data, path, strategy, lambda: load_embeddings(path, ("hen", "jay")))
    if result is not None:
        assert result.vectors.shape[0] == 2
        assert np.isfinite(result.vectors).all()


TABLES = {
    "fuzz.csv": b"image,labels,difficult\na/1.jpg,cat;hot dog,owl\nb.png,,\n",
    "fuzz.jsonl": b'{"image": "a/1.jpg", "labels": ["cat"]}\n{"image": "b.png", "labels": []}\n',
    "fuzz.json": json.dumps(
        {
            "images": [{"id": 1, "file_name": "a/1.jpg", "height": 4, "width": 4}],
            "categories": [{"id": 3, "name": "cat"}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 2, 2]}],
        }
    ).encode(),
}


@pytest.mark.parametrize("name", TABLES)
@FUZZ
@given(data=st.data())
def test_tables_of_images(name: str, data: st.DataObject, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.data.guard import require_sound
    from mlfsic_bench.data.registry import open_dataset

    path = tmp_path_factory.getbasetemp() / name
    strategy = damaged_bytes(TABLES[name])
    result = fuzz(data, path, strategy, lambda: open_dataset(str(path), None).annotations())
    if result is not None:
        require_sound(result, "fuzz")


@FUZZ
@given(data=st.data())
def test_checkpoints(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.training.loop import load_checkpoint

    path = tmp_path_factory.getbasetemp() / "fuzz.pt"
    strategy = damaged_bytes((sound / "checkpoint.pt").read_bytes())
    result = fuzz(data, path, strategy, lambda: load_checkpoint(path))
    assert result is None or isinstance(result, dict)


@FUZZ
@given(data=st.data())
def test_histories(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.training.history import read_history

    folder = tmp_path_factory.getbasetemp() / "fuzz"
    folder.mkdir(exist_ok=True)
    path = folder / "history.jsonl"
    lines = (sound / "run" / "history.jsonl").read_bytes().splitlines()
    strategy = damaged_bytes(b"\n".join(lines) + b"\n") | damaged_json(lines[0].decode())
    for row in fuzz(data, path, strategy, lambda: read_history(folder)) or []:
        assert type(row["step"]) is int
        assert isinstance(row["loss"] + row["lr"] + (row["value"] or 0.0), (int, float))


@FUZZ
@given(data=st.data())
def test_indices(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    import shutil

    from mlfsic_bench.features.store.store import FeatureStore

    folder = tmp_path_factory.getbasetemp() / "fuzz-store"
    if not folder.exists():
        shutil.copytree(sound / "store", folder)
    lines = (sound / "store" / "index.jsonl").read_bytes()
    first = lines.splitlines()[0].decode()
    strategy = damaged_bytes(lines) | damaged_json(first).map(lambda line: line + b"\n")
    store = fuzz(data, folder / "index.jsonl", strategy, lambda: FeatureStore(folder))
    if store is not None:
        assert len(store) <= len(STORE_IDS)
        assert all(isinstance(name, str) for name in store.ids)


@FUZZ
@given(data=st.data())
def test_packs(data: st.DataObject, sound: Path, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.features.packs.pack import Pack

    path = tmp_path_factory.getbasetemp() / "fuzz.mlfsic-features"

    def read() -> object:
        pack = Pack(path)
        pack.check()
        pack.split_file()
        return pack.networks[0].gather_local(pack.networks[0].ids)

    fuzz(data, path, damaged_bytes((sound / "sound.mlfsic-features").read_bytes()), read)


@FUZZ
@given(data=st.data())
def test_imports(data: st.DataObject, tmp_path_factory: Folders) -> None:
    from mlfsic_bench.features.imported import import_features

    folder = tmp_path_factory.getbasetemp()
    sound = folder / "sound.npz"
    rows = np.arange(24, dtype="<f4").reshape(4, 6)
    np.savez_compressed(sound, ids=np.array(list("abcd")), vectors=rows, maps=rows[..., None, None])
    path = folder / "fuzz.npz"

    def read() -> object:
        with tempfile.TemporaryDirectory(dir=folder) as out:
            return import_features(
                path, name="x", dataset="x", made_by="x", pretraining="x", out=Path(out, "s")
            )

    fuzz(data, path, damaged_bytes(sound.read_bytes()), read)
