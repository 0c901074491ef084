"""Pages, and a real Chromium for their tests, which skip with the reason where there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from mlfsic_bench.leaderboard.entry import read_entries
from tests.browser.leaderboard_pages import ROOT, VALUES, write_board, write_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# As root Chromium has no sandbox; the other flags keep it from looking for hosts by itself.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """One headless Chromium for the session; MLFSIC_CHROMIUM names another executable."""
    api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install 'mlfsic-bench[browser]'"
    )
    found = [path for name in NAMES if (path := shutil.which(name))]
    executable = os.environ.get("MLFSIC_CHROMIUM") or (found[0] if found else None)
    if executable is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """`visit(path, width=1280, ...)` opens a page; the test fails on any console error or request.

    Further arguments go to `browser.new_context`.
    """
    complaints: list[str] = []
    contexts = []

    def open_page(
        path: Path, width: int = 1280, height: int = 900, tail: str = "", **options: Any
    ) -> Page:
        options.setdefault("color_scheme", "light")
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(30_000)  # a machine under load, not the page
        page.on("console", lambda message: complaints.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
        url = path.resolve().as_uri()

        def seen(request: Any) -> None:
            if request.url.split("#")[0] not in (url, "data:,"):
                complaints.append(f"request: {request.url}")

        page.on("request", seen)
        page.goto(url + tail)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of six entries."""
    return write_page(VALUES, tmp_path_factory.mktemp("page") / "index.html")


@pytest.fixture(scope="session")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the entries in the repository."""
    entries = read_entries(ROOT / "results")
    return write_board(entries, tmp_path_factory.mktemp("real") / "index.html")
