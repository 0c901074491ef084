"""Scores and targets files: bytes, round trips, and everything a foreign file may get wrong."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlfsic_bench.arrays import write_arrays
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.meta import EpisodesMeta, MethodMeta, ScoresMeta, SplitMeta
from mlfsic_bench.evaluation.record import is_done
from mlfsic_bench.evaluation.scores import Scores, read_scores, read_targets, write_scores
from mlfsic_bench.hashing import hash_file
from mlfsic_bench.results.result import open_result
from tests.fakes.world import fake_run
from tests.searches import examples


def scores(shape: tuple[int, int, int] = (2, 6, 3), decisions: bool = False) -> Scores:
    array = np.linspace(-3, 3, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    meta = ScoresMeta(
        run="c" * 64,
        split=SplitMeta(id="s", hash="a" * 64, dataset="fake", rule="open", subset=False),
        episodes=EpisodesMeta(
            protocol="one_per_label-v1", part="novel", hash="e" * 64, total=5, count=shape[0]
        ),
        labels=[f"label {i} ☂" for i in range(shape[2])],
        method=MethodMeta(
            name="m",
            preset=None,
            parameters={"lr": 0.1, "on": True, "list": [1, 2]},
            changed=["lr"],
            seed=0,
            trains=False,
            uses_words=False,
            adapts_by_gradient=False,
            citation="",
        ),
    )
    return Scores(array, array > 1 if decisions else None, meta)


@pytest.mark.parametrize("decisions", [False, True])
def test_round_trip_and_equal_bytes(tmp_path: Path, decisions: bool) -> None:
    value = scores(decisions=decisions)
    write_scores(tmp_path / "a.npz", value)
    write_scores(tmp_path / "b.npz", value)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    back = read_scores(tmp_path / "a.npz")
    assert back.meta == value.meta
    np.testing.assert_array_equal(back.scores, value.scores)
    assert back.scores.dtype == np.float32
    if decisions:
        assert back.decisions is not None
        np.testing.assert_array_equal(back.decisions, value.scores > 1)
    else:
        assert back.decisions is None
    # numpy itself reads the file without pickles
    with np.load(tmp_path / "a.npz", allow_pickle=False) as plain:
        assert plain["scores"].tolist() == value.scores.tolist()


def members(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as plain:
        return dict(plain)


def edited(tmp_path: Path, **changes: Any) -> Path:
    write_scores(tmp_path / "good.npz", scores())
    arrays = members(tmp_path / "good.npz") | changes
    path = tmp_path / "bad.npz"
    write_arrays(path, {name: np.asarray(a) for name, a in arrays.items() if a is not None})
    return path


def meta_with(tmp_path: Path, **changes: Any) -> np.ndarray[Any, Any]:
    write_scores(tmp_path / "good.npz", scores())
    meta = json.loads(str(members(tmp_path / "good.npz")["meta"])) | changes
    return np.array(json.dumps(meta))


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("scores", np.full((2, 6, 3), np.nan, np.float32), "NaN"),
        ("scores", np.full((2, 6, 3), np.inf, np.float32), "infinite"),
        ("scores", np.zeros((2, 6, 3), np.float64), "float64"),
        ("scores", np.zeros((2, 6, 3), np.float16), "float16"),
        ("scores", np.zeros((3, 6, 3), np.float32), "shape"),
        ("scores", np.zeros((2, 6, 4), np.float32), "shape"),
        ("scores", np.zeros((2, 0, 3), np.float32), "shape"),
        ("scores", None, "members"),
        ("extra", np.zeros(3), "members"),
        ("decisions", np.zeros((2, 6, 3), np.uint8), "bool"),
        ("decisions", np.zeros((2, 6), bool), "bool"),
        ("meta", np.array("{"), "JSON"),
        ("meta", np.array(["{}"]), "one text"),
        ("meta", np.array(3.0), "one text"),
    ],
)
def test_wrong_members_are_named(tmp_path: Path, name: str, value: Any, reason: str) -> None:
    with pytest.raises(BenchError) as caught:
        read_scores(edited(tmp_path, **{name: value}))
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"surprise": 1}, "surprise"),
        ({"labels": ["a", "a", "b"]}, "distinct"),
        ({"kind": "something else"}, "kind"),
        ({"labels": "abc"}, "labels"),
    ],
)
def test_wrong_descriptions_are_named(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(BenchError, match=reason):
        read_scores(edited(tmp_path, meta=meta_with(tmp_path, **changes)))


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (pytest.fail, ("a pickle was run",))


def archive(path: Path, entries: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in entries.items():
            file.writestr(name, data)
    return path


def test_pickles_are_never_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.array([Bomb()], object), allow_pickle=True)
    path = archive(tmp_path / "a.npz", {"scores.npy": buffer.getvalue(), "meta.npy": b""})
    with pytest.raises(BenchError, match="objects are never read"):
        read_scores(path)
    (tmp_path / "b.npz").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(BenchError, match="not a readable"):
        read_scores(tmp_path / "b.npz")


def npy(descr: str, shape: str, data: bytes = b"", order: str = "False") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (npy("<f4", "(1000000000000, 10, 10)", b"abcd"), "shape"),
        (npy("<f4", "(1000000, 10, 10)", b"abcd"), "another size"),
        (npy("<f4", "(0, 9)", b"abcd"), "another size"),
        (npy("<f4", f"({10**300}, 0)"), "shape"),
        (npy("<f4", "(-1,)", b""), "shape"),
        (npy("<f4", "(True,)", b"abcd"), "shape"),
        (npy("<f4", "(1,)", b"abcd", "True"), "C order"),
        (npy("|O", "(1,)", b"abcdefgh"), "never read"),
        (npy("<U0", "(100,)"), "not a plain array"),
        (npy(">f4", "(1,)", b"abcd"), "little-endian"),
        (npy("<c8", "(1,)", b"abcdefgh"), "not a plain array"),
        (npy("<M8[s]", "(1,)", b"abcdefgh"), "not a plain array"),
        (npy("f4,f4", "(1,)", b"abcdefgh"), "not a plain array"),
        (npy("<f3", "(1,)", b"abc"), "unreadable header"),
        (npy("<U1", "()", b"\xff\xff\xff\x7f"), "Unicode"),
        (npy("nonsense", "()"), "unreadable header"),
        (b"\x93NUMPY\x02\x00", "not version 1.0"),
        (b"", "unreadable header"),
        (b"\x93NUMPY\x01\x00\xff\xffx", "unreadable header"),
        (b"\x93NUMPY\x01\x00\x00\x04" + b"(" * 1024, "unreadable header"),
        (b"\x93NUMPY\x01\x00\x00\x04" + b"-" * 1024, "unreadable header"),
        (b"\x93NUMPY\x01\x00\x05\x00{[]:1", "unreadable header"),
        (b"\x93NUMPY\x01\x00\x06\x00{[]:1}", "unreadable header"),
        (b"\x93NUMPY\x01\x00\x04\x00'\\d'", "unreadable header"),
        (b"\x93NUMPY\x01\x00\x03\x00[1]", "unreadable header"),
    ],
)
def test_hostile_members(tmp_path: Path, data: bytes, reason: str) -> None:
    path = archive(
        tmp_path / "a.npz", {"scores.npy": data, "meta.npy": npy("<U1", "()", b"a\0\0\0")}
    )
    with pytest.raises(BenchError, match=reason):
        read_scores(path)


def test_compressed_members_are_refused(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.npz", scores())
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        members = {name: file.read(name) for name in file.namelist()}
    read_scores(archive(tmp_path / "b.npz", members))
    with pytest.raises(BenchError, match="is compressed"):
        read_scores(archive(tmp_path / "c.npz", members, zipfile.ZIP_DEFLATED))


def test_zip_that_claims_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlfsic_bench.evaluation.scores.LIMIT", 1000)
    path = archive(tmp_path / "a.npz", {"scores.npy": b"\0" * 999, "meta.npy": b"\0" * 2})
    with pytest.raises(BenchError, match="above 1000"):
        read_scores(path)


def test_a_long_list_of_members_is_not_read(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {f"{i}.npy": b"" for i in range(3000)})
    with pytest.raises(BenchError, match="a list of members longer than"):
        read_scores(path)
    path = archive(tmp_path / "b.npz", {"a" * 60_000 + "/x.npy": b"", "scores.npy": b""})
    with pytest.raises(BenchError, match=r"\(60002 characters\)") as caught:
        read_scores(path)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": NaN}', "NaN is not a JSON number"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ('{"a": 1e999}', "a finite number"),
        ('{"a": "\\ud800"}', "Unicode text"),
        ("[" * 100_000, "RecursionError"),
        ("[" * 400 + "]" * 400, "nested in a few levels"),
        ('{"a": ' + "1" * 5000 + "}", "ValueError"),
        ('"' + "a" * (1 << 20) + '"', "characters, more than"),
        ("[]", "an object"),
    ],
)
def test_descriptions_that_are_no_sound_json(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(BenchError, match=reason) as caught:
        read_scores(edited(tmp_path, meta=np.array(text)))
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["schema_version", "kind", "split", "labels", "method"])
def test_what_a_description_must_state(tmp_path: Path, key: str) -> None:
    write_scores(tmp_path / "good.npz", scores())
    meta = json.loads(str(members(tmp_path / "good.npz")["meta"]))
    del meta[key]
    with pytest.raises(BenchError, match=key):
        read_scores(edited(tmp_path, meta=np.array(json.dumps(meta))))


def test_what_a_description_may_leave_out(tmp_path: Path) -> None:
    write_scores(tmp_path / "good.npz", scores())
    meta = json.loads(str(members(tmp_path / "good.npz")["meta"]))
    del meta["run"]
    for key in ("preset", "parameters", "changed", "citation"):
        del meta["method"][key]
    back = read_scores(edited(tmp_path, meta=np.array(json.dumps(meta)))).meta
    assert back.run is None
    assert (back.method.preset, back.method.parameters, back.method.citation) == (None, {}, "")


def test_files_of_numpy_itself_are_read(tmp_path: Path) -> None:
    write_scores(tmp_path / "good.npz", scores(decisions=True))
    np.savez(tmp_path / "own.npz", **members(tmp_path / "good.npz"))
    assert read_scores(tmp_path / "own.npz").meta == scores().meta
    np.savez_compressed(tmp_path / "small.npz", **members(tmp_path / "good.npz"))
    with pytest.raises(BenchError, match="is compressed"):
        read_scores(tmp_path / "small.npz")


def test_one_query_for_all_does_not_grow_without_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    arrays = members(folder / "targets.npz")
    one = {name: arrays[name][:1] for name in ("targets", "query")}
    write_arrays(tmp_path / "a.npz", arrays | one)
    assert read_targets(tmp_path / "a.npz").targets.shape == arrays["targets"].shape
    monkeypatch.setattr("mlfsic_bench.evaluation.scores.LIMIT", 2 * one["targets"].size)
    monkeypatch.setattr("mlfsic_bench.evaluation.scores.read_arrays", lambda *a, **k: arrays | one)
    with pytest.raises(BenchError, match="at most"):
        read_targets(tmp_path / "a.npz")


@examples(60)
@given(st.data())
def test_damaged_files_give_one_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    write_scores(folder / "a.npz", scores())
    raw = bytearray((folder / "a.npz").read_bytes())
    cut = data.draw(st.integers(0, len(raw) - 1))
    if data.draw(st.booleans()):
        del raw[cut:]
    else:
        raw[cut] ^= data.draw(st.integers(1, 255))
    (folder / "b.npz").write_bytes(raw)
    with contextlib.suppress(BenchError):  # and nothing but a BenchError
        # A byte that carries nothing (a time stamp) may be damaged unseen.
        np.testing.assert_array_equal(read_scores(folder / "b.npz").scores, scores().scores)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="there is no scores file"):
        read_scores(tmp_path / "none.npz")


def test_scores_are_no_targets(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    with pytest.raises(BenchError, match="targets file"):
        read_targets(folder / "scores.npz")
    assert read_targets(folder / "targets.npz").targets.dtype == np.uint8


def test_a_run_of_an_earlier_version_has_answers(tmp_path: Path) -> None:
    folder = fake_run(tmp_path / "run", episodes=3)
    new = open_result(folder)
    record = json.loads((folder / "record.json").read_text())
    arrays = members(folder / "targets.npz")
    meta = str(arrays["meta"]).replace("mlfsic-bench targets", "mlfsic-bench answers")
    write_arrays(folder / "answers.npz", arrays | {"meta": np.array(meta)})
    (folder / "targets.npz").unlink()
    del record["outputs"]["targets.npz"]
    record["outputs"]["answers.npz"] = hash_file(folder / "answers.npz")
    (folder / "record.json").write_text(json.dumps(record))
    old = open_result(folder)
    assert old.stored is not None
    assert new.stored is not None
    assert old.record is not None
    assert old.stored.meta.kind == "mlfsic-bench answers"
    np.testing.assert_array_equal(old.stored.targets, new.stored.targets)
    assert is_done(folder, old.record)
