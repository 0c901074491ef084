"""One whole reproduction, made once for all tests of its table and of what is left to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.experiments.reproduced import reproduce, small


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(the experiment file, what was printed) after a whole reproduction with two seeds."""
    file = small(tmp_path_factory.mktemp("reproduce"))
    return file, reproduce(file, "--seeds", "2").stdout
