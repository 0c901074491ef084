"""How the processes of a run find each other, and how one ends that nothing can interrupt."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import torch

from mlfsic_bench import distributed, team
from mlfsic_bench.errors import BenchError


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The store of processes that are all on this machine."""
    made = torch.distributed.HashStore()
    made.set_timeout(timedelta(milliseconds=100))
    monkeypatch.setattr(team, "_open_store", lambda: made)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    return made


@pytest.fixture
def begin() -> Iterator[Callable[[int], Any]]:
    """Begin process `number` of two, in a thread: signals stay as they are."""
    with ThreadPoolExecutor(1) as threads:
        yield lambda number: threads.submit(team.Team, number, 2)


def hub(store: Any) -> tuple[tuple[str, int], str]:
    """Where process 0 waits for others, and the word that it expects."""
    while not store.check(["hub"]):
        time.sleep(0.01)
    host, port, token = json.loads(store.get("hub"))
    return (host, port), token


def test_a_process_0_that_never_comes_is_one_error(store: Any, begin: Any) -> None:
    with pytest.raises(BenchError, match="don't find each other"):
        begin(1).result()


@pytest.mark.parametrize("said", [b"", b"\xff\n", b"[1]\n", b"[" * 999 + b"\n", b"9" * 999 + b"\n"])
def test_a_stranger_at_the_door_is_turned_away(store: Any, begin: Any, said: bytes) -> None:
    first = begin(0)
    place, token = hub(store)
    with socket.create_connection(place) as stranger:
        stranger.sendall(said)
    with socket.create_connection(place) as other:
        other.sendall(json.dumps([token, 1]).encode() + b"\n")
        made = first.result()
        assert list(made._links) == [1]
        made.ending = True


def test_a_machine_that_is_gone_is_noticed() -> None:
    with socket.socket() as connection:
        team._watched(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert connection.gettimeout() is None
        if hasattr(socket, "TCP_KEEPIDLE"):
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) < 60


def test_a_process_that_is_stuck_ends_on_any_system(
    store: Any, begin: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = begin(0)
    place, token = hub(store)
    with socket.create_connection(place) as other:
        other.sendall(json.dumps([token, 1]).encode() + b"\n")
        stuck = first.result()
        stuck.ending = True
        stuck.failure = KeyboardInterrupt()
        codes: list[int] = []
        monkeypatch.delattr(signal, "SIGKILL")
        monkeypatch.setattr(os, "_exit", codes.append)
        stuck._give_up()
    assert codes == [130]


def test_a_place_on_the_machine_that_is_no_number_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}
    for name, text in {**said, "LOCAL_RANK": "first"}.items():
        monkeypatch.setenv(name, text)
    with pytest.raises(BenchError, match="LOCAL_RANK=first"):
        distributed.environment()
