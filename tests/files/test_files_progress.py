"""Long work says how far it is, where there is no terminal for a bar."""

from __future__ import annotations

import re

import pytest
import torch

from mlfsic_bench import progress as module
from mlfsic_bench.features.extract import extract, verify_store
from mlfsic_bench.progress import Lines
from mlfsic_bench.training.loop import train_episodic
from tests.features.feature_fakes import FolderDataset, make_images, picked_backbone

LINE = re.compile(r".*: [\d,]+ of 5 \w+, [\d.e+]+ a second, about \d+ \w+ left")


@pytest.fixture
def _every_step(monkeypatch):
    monkeypatch.setattr(module, "SECONDS", 0.0)


@pytest.mark.usefixtures("_every_step")
def test_d4_extraction_verification_and_training(tmp_path):
    dataset, said = FolderDataset(tmp_path / "images"), []
    ids = make_images(tmp_path / "images", 5)
    store = extract(dataset, ids, picked_backbone(), tmp_path / "store", batch_size=2,
                    log=said.append)  # fmt: skip
    assert [line.partition(" images")[0] for line in said] == [
        "picked on fake: 2 of 5", "picked on fake: 4 of 5", "picked on fake: 5 of 5",
    ]  # fmt: skip
    verify_store(store, dataset, picked_backbone(), log=said.append)
    weight = torch.nn.Parameter(torch.ones(()))
    train_episodic(
        parameters=[weight],
        loss=lambda i: weight**2,
        learning_rate=lambda step: 0.01,
        steps=5,
        get_state=dict,
        set_state=lambda state: None,
        log=said.append,
    )
    assert said[-1].startswith("training: 5 of 5 steps")
    assert all(LINE.fullmatch(line) for line in said), said


def test_d4_one_line_every_ten_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    said = []
    lines = Lines("x", 1000, said.append, done=100)
    for second in range(1, 35):
        now[0] = float(second)
        lines.advance(10)
    assert said == [
        "x: 200 of 1,000 images, 10 a second, about 80 s left",
        "x: 300 of 1,000 images, 10 a second, about 70 s left",
        "x: 400 of 1,000 images, 10 a second, about 60 s left",
    ]
