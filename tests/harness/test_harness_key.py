"""What a run's key depends on, and what it must not depend on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from mlfsic_bench.harness.inputs import Inputs, method_source
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
        "method", "split", "backbone", "weights", "words", "available_only", "min_pool", "preset",
        "settings", "seed", "episodes", "episodes_file", "features",
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


def test_source_of_a_method(tmp_path: Path) -> None:
    path = tmp_path / "m.py"
    path.write_text("a = 1\n")
    one = method_source(f"{path}:A", Mean)
    path.write_text("a = 2\n")
    assert one != method_source(f"{path}:A", Mean)
    assert method_source("random", Mean).startswith("mlfsic-bench ")
