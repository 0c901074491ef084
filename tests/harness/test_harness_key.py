"""What a run's key depends on, and what it must not depend on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from mlfsic_bench.harness.code import method_source, package_code
from mlfsic_bench.harness.inputs import Inputs
from mlfsic_bench.harness.plan import RunPlan, default_folder, differences, identity, run_key
from tests.fakes.world import Mean, Trained, fake_inputs, fake_split


def key(inputs: Inputs) -> str:
    return run_key(identity(inputs))


BASE = fake_inputs(Trained, words=True, episodes=4)


def test_equal_inputs_equal_key() -> None:
    assert key(BASE) == key(fake_inputs(Trained, words=True, episodes=4))


def test_device_is_not_in_the_key() -> None:
    other = dataclasses.replace(BASE, device=torch.device("meta"), open_source=lambda *a: None)  # type: ignore[arg-type,return-value]
    assert key(other) == key(BASE)


def test_every_field_of_a_plan_is_accounted_for() -> None:
    # A new option must be put in the identity, or here because results may not depend on it.
    outside = {"data_root", "device", "cache", "batch_size", "workers", "out"}
    inside = {
        "method", "split", "backbone", "weights", "words", "words_format", "available_only",
        "min_pool", "preset", "settings", "seed", "episodes", "episodes_file", "features",
        "precision", "base_images", "protocol", "shots",
    }  # fmt: skip
    assert {field.name for field in dataclasses.fields(RunPlan)} == outside | inside


@pytest.mark.parametrize(
    "changed",
    [
        fake_inputs(Trained, words=True, episodes=4, seed=1),
        fake_inputs(Trained, words=True, episodes=4, count=3),
        fake_inputs(Trained, words=True, episodes=5),
        fake_inputs(Trained, words=False, episodes=4),
        fake_inputs(Trained, {"steps": 31}, words=True, episodes=4),
        fake_inputs(Mean, words=True, episodes=4),
        fake_inputs(Trained, words=True, episodes=4, split=fake_split(base=9)),
        fake_inputs(Trained, words=True, episodes=4, split=fake_split({"min_pool": 5})),
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
    seen = {method_source(f"{path}:A", Mean)}
    for file in (path, helper, deep):
        file.write_text(file.read_text() + "x = 1\n")
        seen.add(method_source(f"{path}:A", Mean))
    assert len(seen) == 4
    (tmp_path / "other.py").write_text("c = 2\n")
    assert method_source(f"{path}:A", Mean) in seen


def test_source_of_an_installed_method() -> None:
    from mlfsic_bench.methods.discovery import find_method

    random, model = find_method("random"), find_method("word-guided-attention")
    assert "sha256:" in method_source("random", random)
    assert method_source("random", random).startswith("mlfsic-bench ")
    assert "sha256:" not in method_source("word-guided-attention", model)  # package_code covers it


def test_code_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    import mlfsic_bench

    package_code.cache_clear()
    before = package_code()
    copy = tmp_path / "mlfsic_bench"
    shutil.copytree(Path(mlfsic_bench.__file__).parent, copy)
    monkeypatch.setattr(mlfsic_bench, "__file__", str(copy / "__init__.py"))
    package_code.cache_clear()
    assert package_code() == before
    for name, counts in (("metrics/episode.py", False), ("training/loop.py", True)):
        (copy / name).write_text((copy / name).read_text() + "\n")
        package_code.cache_clear()
        assert (package_code() != before) is counts
    package_code.cache_clear()
