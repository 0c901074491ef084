"""Long work says how far it is, where there is no terminal for a bar."""

from __future__ import annotations

import io
import logging
import re

import pytest
import torch

from mlfsic_bench import progress as module
from mlfsic_bench.cli.streams import say
from mlfsic_bench.data.coco import Coco
from mlfsic_bench.features.extract import extract, verify_store
from mlfsic_bench.hashing import MIB, hash_file
from mlfsic_bench.progress import progress
from mlfsic_bench.training.loop import train_episodic
from tests.fakes.coco import write_coco
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
    assert said.pop(0).startswith("features of 5 images by picked, kept in ")
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


@pytest.mark.usefixtures("_every_step")
def test_hashing_a_large_file_and_reading_annotations_say_so_without_a_log(tmp_path, caplog):
    caplog.set_level(logging.INFO, "mlfsic_bench")
    (tmp_path / "weights.pt").write_bytes(bytes(4 * MIB + 1))
    hash_file(tmp_path / "weights.pt")
    assert LINE.fullmatch(caplog.messages[-1])
    assert caplog.messages[-1].startswith("hashing weights.pt: 5 of 5 MiB")
    Coco(write_coco(tmp_path)).annotations()
    assert any(line.startswith("reading instances_val2014.json: ") for line in caplog.messages)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_that_makes_room_for_lines(monkeypatch):
    now, screen = [0.0], Terminal()
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "60")
    with progress("training", 10, unit="steps") as advance:
        advance(1)
        assert screen.getvalue() == ""  # nothing flashes up for short work
        now[0] = 2.0
        advance(4)
        assert "\rtraining [######------] 5 of 10, 2.5/s, about 1 s left" in screen.getvalue()
        assert len(screen.getvalue().strip("\r").removesuffix("\x1b[K")) < 60
        say("step 5")
        assert screen.getvalue().endswith("\r\x1b[Kstep 5\n")
        now[0] = 3.0
        advance(1)
    assert screen.getvalue().endswith("\r\x1b[K")


def test_d4_one_line_every_ten_seconds(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    said = []
    with progress("x", 1000, said.append, done=100) as advance:
        for second in range(1, 35):
            now[0] = float(second)
            advance(10)
    assert said == [
        "x: 200 of 1,000 images, 10 a second, about 80 s left",
        "x: 300 of 1,000 images, 10 a second, about 70 s left",
        "x: 400 of 1,000 images, 10 a second, about 60 s left",
    ]
