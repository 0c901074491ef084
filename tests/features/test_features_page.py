"""The commands and the Python of docs/features.md on features of others do what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.pages import run_page

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("title", ["Bring your own features", "Share features as a pack"])
def test_the_blocks_of_a_section_run(title: str, tmp_path: Path) -> None:
    run_page("features.md", tmp_path, title)
    assert list((tmp_path / "runs").iterdir())
