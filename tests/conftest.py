"""Settings for all tests: the same examples, processor and places on every machine."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfsic_bench import signals
from tests.searches import register_profiles

register_profiles()

gc.disable()  # what the collection imports and makes lives to the end of the session

# Odd on purpose: the doctest of Python 3.10 stumbles over the name of a class in there.
collect_ignore_glob = ["plugins_corpus/[!t]*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Tests compute on the CPU, also where there is a GPU, but for `pytest tests/gpu` alone."""
    if not os.environ.get("MLFSIC_DATA"):  # an empty one names no data root
        os.environ.pop("MLFSIC_DATA", None)
    if not all("tests/gpu" in Path(arg).as_posix() for arg in config.args):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: the short ones at the end keep all workers busy to the last."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """Collect garbage from now on, seldom, and never look again at what is there already."""
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)
    gc.enable()


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    """A test of how a program ends leaves a process that takes no signal any more."""
    numbers = [getattr(signal, n, None) for n in ("SIGINT", "SIGTERM", "SIGHUP", "SIGURG")]
    before = {number: signal.getsignal(number) for number in numbers if number is not None}
    yield
    signals._ending = False
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tests that compare bits, such as those of a resumed training: one order of sums."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
