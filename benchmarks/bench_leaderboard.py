"""The leaderboard page: how long it takes to build, to open, to sort and to filter in Chromium.
There is no peer. Pages of 50 and of 500 made-up entries. Times in the browser are of one sort or
filter up to the frame that shows it, medians of 15; `work` is the mean time the page's main thread
was busy with one, which other work on the machine does not lengthen.

    python benchmarks/bench_leaderboard.py [entries ...]

Without Chromium or playwright only the building is timed.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mlfsic_bench.leaderboard.board import build_boards
from mlfsic_bench.leaderboard.page import board_html

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the made-up entries

from tests.fakes.entries import entry, many_values

if TYPE_CHECKING:
    from playwright.sync_api import CDPSession

ROUNDS = 15
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync"]
# Milliseconds of an action: its own work, and until the frame after it has been laid out.
TIMED = """
async (what) => {
  const form = document.querySelector("#form");
  const heads = [...document.querySelectorAll("thead th.num button")];
  const acts = {
    sort: (i) => heads[i % 2 ? 0 : 4].click(),
    filter: (i) => {
      form.elements.words.value = ["", "word vectors", "no word vectors"][i % 3];
      form.elements.words.dispatchEvent(new Event("input", { bubbles: true }));
    },
    search: (i) => {
      form.elements.q.value = i % 2 ? "entry-00" : "";
      form.elements.q.dispatchEvent(new Event("input", { bubbles: true }));
    },
    card: (i) => {
      document.querySelector("#card").close();
      document.querySelectorAll(".open")[i].click();
    },
  };
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  for (let i = 0; i < ROUNDS; i++) {
    await frame();
    const start = performance.now();
    acts[what](i);
    await frame();
    document.body.getBoundingClientRect();
    times.push(performance.now() - start);
  }
  document.querySelector("#card").close();
  return times;
}
""".replace("ROUNDS", str(ROUNDS))


def main(counts: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        pages = [build(count, Path(folder)) for count in counts]
        executable = shutil.which("chromium") or shutil.which("google-chrome")
        try:
            from playwright.sync_api import sync_playwright
        except ImportError:
            executable = None
        if executable is None:
            print("no Chromium or no playwright: nothing timed in a browser")
            return
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=executable, args=FLAGS)
            for count, path in zip(counts, pages, strict=True):
                page = browser.new_page(viewport={"width": 1280, "height": 900})
                devtools = page.context.new_cdp_session(page)
                devtools.send("Performance.enable", {"timeDomain": "threadTicks"})
                start = time.perf_counter()
                page.goto(path.as_uri())
                opened = 1000 * (time.perf_counter() - start)
                print(f"{count:5d} entries: open {opened:6.0f} ms", end="")
                for what in ("sort", "filter", "search", "card"):
                    before = spent(devtools)
                    times = page.evaluate(TIMED, what)
                    work = (spent(devtools) - before) / ROUNDS
                    print(f", {what} {statistics.median(times):5.0f} (work {work:4.0f})", end="")
                print(" ms")
                page.close()
            browser.close()


def spent(devtools: CDPSession) -> float:
    """Milliseconds the page's main thread has worked so far, time it waited for a core left out."""
    metrics = devtools.send("Performance.getMetrics")["metrics"]
    return 1000 * next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")


def build(count: int, folder: Path) -> Path:
    """The page of `count` entries; prints how long it took and its size."""
    entries = [entry(value) for value in many_values(count)]
    start = time.perf_counter()
    text = board_html(build_boards(entries))
    seconds = time.perf_counter() - start
    path = folder / f"{count}.html"
    path.write_text(text, encoding="utf-8")
    print(f"{count:5d} entries: built in {1000 * seconds:6.0f} ms, {len(text) / 1e6:.2f} MB")
    return path


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or [50, 500])
