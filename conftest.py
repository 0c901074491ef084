"""What tests and examples in docstrings share: one cache of features, and short audits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def scenes_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The default cache of every test: features that a test has asked for are there for the next.

    The workers of one session share it. A test that is about the cache names one of its own.
    """
    top = tmp_path_factory.getbasetemp()
    folder = (top.parent if "PYTEST_XDIST_WORKER" in os.environ else top) / "shared-cache"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFSIC_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="session", autouse=True)
def short_audits() -> Iterator[None]:
    """Runs of tests are audited as others are, in as few episodes and queries as may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mlfsic_bench.evaluation.audit.audit.LEAST", 0.0)
        yield
