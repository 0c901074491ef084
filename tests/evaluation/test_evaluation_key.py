"""What a run's key depends on, and what it must not depend on."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys
from pathlib import Path

import pytest
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.identity import differences, identity, meaning, run_key
from mlfsic_bench.evaluation.inputs import Inputs
from mlfsic_bench.evaluation.meta import TrainingMeta
from mlfsic_bench.evaluation.plan import RunPlan, default_folder
from mlfsic_bench.evaluation.provenance import provenance
from mlfsic_bench.evaluation.record import Record, new_record
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.features.training_options import PLAIN, Training
from mlfsic_bench.leaderboard.build import contradictions
from mlfsic_bench.plugins.files import source_hash
from tests.fakes.world import Mean, Trained, fake_inputs, fake_split


def key(inputs: Inputs) -> str:
    return run_key(identity(inputs))


BASE = fake_inputs(Trained, embeddings=True, episodes=4)


def test_equal_inputs_equal_key() -> None:
    assert key(BASE) == key(fake_inputs(Trained, embeddings=True, episodes=4))


def test_device_is_not_in_the_key() -> None:
    other = dataclasses.replace(BASE, device=torch.device("meta"), open_source=lambda *a: None)  # type: ignore[arg-type,return-value]
    assert key(other) == key(BASE)


def test_every_field_of_a_plan_is_accounted_for() -> None:
    # A new option must be put in the identity, or here because results may not depend on it.
    outside = {
        "data_root", "dataset", "device", "cache", "batch_size", "workers", "out", "features_pack",
    }  # fmt: skip
    inside = {
        "method", "split", "backbone", "weights", "embeddings", "embeddings_format",
        "available_only", "min_pool", "preset", "settings", "seed", "episodes", "episodes_file",
        "features", "templates",
        "precision", "base_images", "base_labels", "protocol", "part",
        "training",  # of it what `test_of_the_training_options_...` says
    }  # fmt: skip
    assert {field.name for field in dataclasses.fields(RunPlan)} == outside | inside


@pytest.mark.parametrize(
    "changed",
    [
        fake_inputs(Trained, embeddings=True, episodes=4, seed=1),
        fake_inputs(Trained, embeddings=True, episodes=4, count=3),
        fake_inputs(Trained, embeddings=True, episodes=5),
        fake_inputs(Trained, embeddings=False, episodes=4),
        fake_inputs(Trained, {"steps": 31}, embeddings=True, episodes=4),
        fake_inputs(Mean, embeddings=True, episodes=4),
        fake_inputs(Trained, embeddings=True, episodes=4, split=fake_split(base=9)),
        fake_inputs(Trained, embeddings=True, episodes=4, split=fake_split({"min_pool": 5})),
        dataclasses.replace(BASE, method_source="fakes 2"),
        *(
            dataclasses.replace(BASE, features=BASE.features.model_copy(update={name: value}))
            for name, value in (
                ("mode", "live"),
                ("backbone", "other"),
                ("weights_hash", "1" * 64),
                ("transform", "other"),
                ("precision", "bf16"),
            )
        ),
    ],
)
def test_what_scores_depend_on_is_in_the_key(changed: Inputs) -> None:
    assert key(changed) != key(BASE)
    assert differences(identity(BASE), identity(changed))


@pytest.mark.parametrize(
    ("chosen", "changes"),
    [
        ({}, False),
        ({"tf32": True}, True),
        ({"batch_norm": "frozen"}, True),
        ({"augment": ["flip"]}, True),
        ({"micro_batch": 4}, False),
        ({"checkpointing": True}, False),
        ({"compile": True}, False),
    ],
)
def test_of_the_training_options_those_that_change_scores_are_in_the_key(
    chosen: dict[str, object], changes: bool
) -> None:
    training = TrainingMeta.model_validate(chosen) if chosen else None
    features = BASE.features.model_copy(update={"training": training})
    other = dataclasses.replace(BASE, features=features)
    assert (key(other) != key(BASE)) is changes
    record = new_record(other, key(other), identity(other), provenance("cpu"), None)
    assert contradictions(record) == []
    kept = Record.model_validate_json(record.model_dump_json())
    assert kept.features == features
    assert ("training" in json.loads(record.model_dump_json())["features"]) is bool(chosen)


def test_the_meta_of_training_says_what_was_used() -> None:
    norms, none = torch.nn.BatchNorm2d(3), torch.nn.LayerNorm(3)
    assert TrainingMeta.of(PLAIN, [norms]) is None  # type: ignore[list-item]
    small = Training(micro_batch=8, augment=("flip",))
    made = TrainingMeta.of(small, [norms])  # type: ignore[list-item]
    assert made is not None
    assert made.changes == {"batch_norm": "frozen", "augment": ["flip"]}
    assert TrainingMeta.of(made.options, [norms]) == made  # type: ignore[list-item]
    without = TrainingMeta.of(small, [none])  # type: ignore[list-item]
    assert without is not None
    assert without.changes == {"augment": ["flip"]}
    assert TrainingMeta.of(Training(batch_norm="frozen"), [none]) is None  # type: ignore[list-item]


def test_only_a_transductive_method_says_so_in_its_identity_and_record() -> None:
    def said(method: type[Mean]) -> tuple[object, dict[str, object]]:
        inputs = fake_inputs(method, episodes=4)
        made_by = provenance("cpu")
        record = new_record(inputs, key(inputs), identity(inputs), made_by, None)
        own = identity(inputs)["method"]
        assert isinstance(own, dict)
        assert contradictions(record.model_copy(update={"key": key(inputs)})) == []
        return own.get("transductive"), record.method.model_dump()

    together = type("Together", (Mean,), {"transductive": True})
    assert said(Mean)[0] is None
    assert "transductive" not in said(Mean)[1]  # as in records of earlier versions
    assert said(together)[0] is True
    assert said(together)[1]["transductive"] is True


def test_selection_is_in_the_key() -> None:
    assert BASE.selection is not None
    other = dataclasses.replace(BASE.selection, hash="other")
    assert key(dataclasses.replace(BASE, selection=other)) != key(BASE)


def test_default_folder_has_no_odd_characters() -> None:
    assert default_folder("a/b c", "../s", True, "0123456789") == Path(
        "runs/a_b_c-.._s-subset-01234567"
    )


def test_differences_name_nested_keys() -> None:
    old: dict[str, object] = {"seed": 0, "method": {"parameters": {"lr": 1.0}}, "a": "0" * 64}
    new: dict[str, object] = {"seed": 1, "method": {"parameters": {"lr": 2.0}}, "a": "1" * 64}
    assert differences(old, new) == [
        "a: 000000000000 -> 111111111111",
        "method.parameters.lr: 1.0 -> 2.0",
        "seed: 0 -> 1",
    ]


def test_source_of_a_method_in_a_file_follows_its_imports(tmp_path: Path) -> None:
    path, helper, deep = tmp_path / "m.py", tmp_path / "helper.py", tmp_path / "kit" / "deep.py"
    deep.parent.mkdir()
    for file, text in (
        (path, "import helper"), (helper, "from kit.deep import b"), (deep, "b = 1"),
        (tmp_path / "other.py", "c = 1"),
    ):  # fmt: skip
        file.write_text(text + "\n")
    seen = {source_hash(f"{path}:A")}
    for file in (path, helper, deep):
        file.write_text(file.read_text() + "x = 1\n")
        seen.add(source_hash(f"{path}:A"))
    assert len(seen) == 4
    (tmp_path / "other.py").write_text("c = 2\n")
    assert source_hash(f"{path}:A") in seen


def test_an_import_that_python_would_not_read_again_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, helper = tmp_path / "m.py", tmp_path / "helper_of_m.py"
    path.write_text("import helper_of_m\n")
    helper.write_text("a = 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    before = source_hash(f"{path}:A")
    importlib.import_module("helper_of_m")
    assert source_hash(f"{path}:A") == before
    helper.write_text("a = 2\n")
    with pytest.raises(BenchError, match="changed since it was imported"):
        source_hash(f"{path}:A")
    del sys.modules["helper_of_m"]
    assert source_hash(f"{path}:A") != before


def test_a_registered_method_has_a_version_in_place_of_a_source() -> None:
    assert source_hash("random") == ""
    of_file = identity(dataclasses.replace(BASE, method_source="sha256:1"))["method"]
    registered = identity(dataclasses.replace(BASE, method_source=""))["method"]
    assert isinstance(of_file, dict)
    assert isinstance(registered, dict)
    assert of_file["source"] == "sha256:1"
    assert registered["version"] == 1


def test_an_edited_comment_keeps_the_key_and_a_new_version_changes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A registered method as a package of somebody's would bring it: a module and its entry point.
    module, info = tmp_path / "edited_method.py", tmp_path / "edited_method-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edited-method\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[mlfsic_bench.methods]\nedited-method = edited_method:Edited\n"
    )
    text = (
        "import torch\nfrom mlfsic_bench.methods.contract import Method\n"
        "class Edited(Method):\n    name = 'edited-method'\n"
        "    def adapt(self, support):\n"
        "        return lambda query: torch.zeros(len(query), len(support.labels))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)

    def again(source: str) -> list[str]:
        module.write_text(source)
        sys.modules.pop("edited_method", None)
        importlib.invalidate_caches()
        lines: list[str] = []
        plan = RunPlan(
            "edited-method", "scenes-12-6-6-v1", "scenes-small", episodes=2, out=tmp_path / "run"
        )
        run_method(plan, lines.append)
        return lines

    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    assert not any("done already" in line for line in again(text))
    assert any("done already" in line for line in again(text + "# a comment\n"))
    newer = text.replace("    name", "    version = 2\n    name")
    with pytest.raises(BenchError, match="holds another run") as refused:
        again(newer)
    assert "method.version: 1 -> 2" in refused.value.found


def test_identities_of_version_1_say_the_same_as_those_of_version_2() -> None:
    now = identity(dataclasses.replace(BASE, method_source=""))
    method = now["method"]
    assert isinstance(method, dict)
    old = {
        **{name: value for name, value in now.items() if name != "scores_version"},
        "identity_version": 1,
        "package": {"version": "0.1.0", "code": "0" * 64},
        "method": {
            "name": method["name"],
            "parameters": method["parameters"],
            "source": "mlfsic-bench 0.1.0 sha256:00",
        },
    }
    assert meaning(old) == now == meaning(now)
    stranger = old | {"method": {**old["method"], "source": "other 1.0 sha256:00"}}  # type: ignore[dict-item]
    assert meaning(stranger) != now
