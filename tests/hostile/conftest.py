"""A folder of sound files, and one in which changed ones are read."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.hostile.sound import write_sound


@pytest.fixture(scope="session")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    write_sound(folder)
    return folder


@pytest.fixture
def here(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: files that must not be opened lie in it, beside it, and sound ones."""
    work = tmp_path / "work"
    work.mkdir()
    (work / "sound").symlink_to(sound)
    for folder in (work, tmp_path):
        shutil.copyfile(sound / "split.json", folder / "canary.json")
        (folder / "canary.py").write_text("open('executed', 'w').close()\n")
    monkeypatch.chdir(work)
    return work
