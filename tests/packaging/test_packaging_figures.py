"""Figures in the pages: blocks are fresh, numbers in prose are those of results, pictures exist."""

import json
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.episodes.files import shipped_episode_set
from mlfsic_bench.metrics.chance import chance_levels, expected_random_ap
from mlfsic_bench.report.claims import all_claims
from mlfsic_bench.splits.resolve import resolve_split
from tools.refresh_docs import COMMAND, blocks, pages, refresh

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages(ROOT)
# Numbers that are no results: (page, number as it stands, why).
ALLOWED = {
    **{
        ("docs/running.md", number): "settings of the audit, and chances from them, which "
        "tests/harness computes"
        for number in (
            *("0.001", "0.00001", "8", "73.0", "52.3", "25.3", "8.4", "1.4"),
            *("23.7", "5.1", "0.1"),
        )
    },
    ("README.md", "3.10"): "a version of Python",
    ("README.md", "2.0"): "a version of a licence",
    ("docs/claims.md", "1.25"): "labels an image, an assumption",
    ("docs/scenes.md", "0.3"): "gigabytes on disk",
    ("docs/attention.md", "2"): "a cell's share of a 7 x 7 grid",
    ("docs/compare.md", "0.05"): "a level of significance",
    ("docs/leaderboard.md", "0.1"): "a tolerance of the rule",
    ("docs/model.md", "0.1"): "a rate of dropout",
    ("docs/model.md", "0.5"): "the threshold",
    ("docs/plots.md", "0.27"): "sigmoid(-1)",
    ("docs/plots.md", "0.5"): "the threshold, and a recall",
    ("docs/plots.md", "0.73"): "sigmoid(1)",
    ("docs/plots.md", "1"): "a recall",
    ("docs/plots.md", "100"): "a recall",
    ("docs/results-format.md", "1.0"): "a value of an example",
    ("docs/scores-format.md", "1.0"): "a value of an example",
    ("docs/methodology.md", "0.01"): "a learning rate of LaSO",
    ("docs/methodology.md", "0.1"): "a rate of dropout",
    ("docs/methodology.md", "0.5"): "the threshold, and a rate of dropout",
    ("docs/methodology.md", "2105.10195"): "a number of arXiv",
    ("docs/metrics.md", "0.0"): "a zero",
    ("docs/metrics.md", "0.1"): "a step",
    ("docs/metrics.md", "0.5"): "the threshold",
    ("docs/metrics.md", "98"): "a bound of the coverage",
    ("docs/metrics.md", "1.96"): "a quantile of the normal distribution",
}
LEVEL = "95"  # per cent of every interval
_NUMBER = r"\d{1,3}(?:,\d{3})+|\d+\.\d+|\d+"
_DECIMAL = re.compile(r"(?<![\w.,])\d+\.\d+(?![\w]|\.\d)")
_SHARES = re.compile(r"(?<![\w.,])(?:\d+(?:\.\d+)?(?:,? and |, | to | or |–))*\d+(?:\.\d+)?(?= %)")


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def prose(text: str) -> str:
    """A page without what is made by commands, code, comments and the targets of links."""
    lines = text.split("\n")
    for block in blocks(text, "page"):
        lines[block.begin : block.end + 1] = [""] * (block.end + 1 - block.begin)
    text = "\n".join(lines)
    # the table of coverage has a test of its own, beside those of the intervals
    text = re.sub(
        r"^<!-- coverage table: begin.*?coverage table: end -->$", "", text, flags=re.M | re.S
    )
    text = re.sub(r"^(```|~~~).*?^\1", "", text, flags=re.M | re.S)
    text = re.sub(r"^(?: {4}|\t).*$", "", text, flags=re.M)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r"`[^`]*`", "code", text)
    return re.sub(r"\]\([^)\s]*\)", "]", text)


def sections(text: str) -> list[str]:
    """The page from one `## ` to the next; what stands before the first is one too."""
    return re.split(r"^(?=## )", text, flags=re.M)


def numbers(text: str) -> list[str]:
    """The decimal numbers of a text, and the whole ones that are shares in per cent."""
    shares = [n for found in _SHARES.findall(text) for n in re.findall(r"\d+(?:\.\d+)?", found)]
    whole = [n for n in shares if "." not in n and n != LEVEL]
    return _DECIMAL.findall(text) + whole


def sources(section: str, page: Path) -> list[Path]:
    """The files of results that a section links to or shows, with those of the same name beside."""
    targets = re.findall(r"\]\(([^)\s#]+)\)", section)
    found = [(page.parent / target).resolve() for target in targets if ":" not in target]
    found += [ROOT / block.source for block in blocks(section, relative(page))]
    named = [path for path in found if path.is_file() and ROOT / "results" in path.parents]
    beside = [p for path in named for p in path.parent.glob(f"{path.stem}.*")]
    return sorted({p for p in beside if p.suffix in (".md", ".json", ".jsonl", ".csv", ".txt")})


# Positives and images of the queries whose chance level docs/methodology.md tells: an episode of
# COCO label by label, then all labels together; the same of VOC.
CHANCE = [(4, 64), (5, 64), (6, 64), (64, 1024), (90, 1024), (4, 24), (5, 24), (24, 144), (28, 144)]


@cache
def computed() -> frozenset[float]:
    """Chance levels and bounds of the published figures, and of the VOC episodes that ship."""
    split = resolve_split("voc-8-6-6-v1", data_root=None)
    novel = split.parts["novel"]
    y = dict(zip(novel.image_ids, novel.targets, strict=True))
    episodes = shipped_episode_set(split, "novel").episodes
    targets = np.array([[y[image] for image in episode.query] for episode in episodes])
    found = [100 * level for level in chance_levels(targets)] + [targets.sum(axis=2).mean()]
    found += [100 * expected_random_ap(m, n) for m, n in CHANCE]
    for claim in all_claims():
        found += [claim.printed, claim.low, claim.high]
        if claim.verdict == "broken":
            found.append(claim.printed - 0.005)
    return frozenset(map(float, found))


# Pages that may name these.
COMPUTED = ("README.md", "docs/claims.md", "docs/methodology.md", "docs/metrics.md")


@cache
def values(path: Path) -> frozenset[float]:
    """Every number of a file; fractions of JSON also in per cent; of a history loss and value."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        found = _numbers_of(json.loads(text))
        per_cent = "mlfsic-bench reproduced table" in text
        more = [] if per_cent else [100 * v for v in found if abs(v) <= 1]
        return frozenset(map(abs, [*found, *more]))
    if path.suffix == ".jsonl":
        steps = [json.loads(line) for line in text.splitlines()]
        losses = [step["loss"] for step in steps]
        return frozenset(losses + [100 * s["value"] for s in steps if s["value"] is not None])
    return frozenset(float(n.replace(",", "")) for n in re.findall(_NUMBER, text))


def _numbers_of(value: object) -> list[float]:
    if isinstance(value, dict):
        return [n for each in value.values() for n in _numbers_of(each)]
    if isinstance(value, list):
        return [n for each in value for n in _numbers_of(each)]
    if isinstance(value, str):
        return [float(n.replace(",", "")) for n in re.findall(_NUMBER, value)]
    return [float(value)] if isinstance(value, (int, float)) and value is not True else []


def occurs(number: str, paths: list[Path], more: frozenset[float] = frozenset()) -> bool:
    """Whether a figure of the files, or another, rounded to as many places, is this number."""
    places = len(number.partition(".")[2])
    half = 0.5 * 10**-places + 1e-9
    return any(
        abs(v - float(number)) <= half for known in (more, *map(values, paths)) for v in known
    )


def unfounded(text: str, page: Path) -> list[str]:
    """The numbers in a page's prose that no file named in the same section has."""
    more = computed() if relative(page) in COMPUTED else frozenset()
    return [
        number
        for section in sections(text)
        for number in numbers(prose(section))
        if not occurs(number, sources(section, page), more)
    ]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_is_fresh(page):
    made = refresh(page, ROOT)
    assert made == page.read_text("utf-8"), f"{relative(page)} is stale: run `{COMMAND}`"


def test_there_are_blocks():
    assert [b for page in PAGES for b in blocks(page.read_text("utf-8"), relative(page))]


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_numbers_in_prose_are_figures_of_results(page):
    found = unfounded(page.read_text("utf-8"), page)
    stale = [number for number in found if (relative(page), number) not in ALLOWED]
    assert not stale, (
        f"{relative(page)}: {', '.join(stale)} in no file of results/ that the section names: "
        "correct the number, link its file in the section, or give a reason in ALLOWED"
    )


def test_nothing_is_allowed_in_vain():
    found = {
        (relative(page), n) for page in PAGES for n in unfounded(page.read_text("utf-8"), page)
    }
    assert set(ALLOWED) <= found


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_pictures_exist(page):
    for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text("utf-8")):
        picture = page.parent / target
        assert picture.is_file(), f"{relative(page)} shows {target}"
        assert picture.read_bytes().startswith((b"\x89PNG", b"<svg", b"<?xml")), target


def test_the_check_of_numbers_notices(tmp_path):
    """A figure is found by its rounding, in the section that names its file, and nowhere else."""
    page = ROOT / "docs" / "measured.md"
    link = "[t](../results/published/yan-2022-table3.json)"  # 36.17, 26.44, ...
    assert unfounded(f"It has 36.17, 36.2 or 36 % {link}.", page) == []
    assert unfounded(f"It has 36.1 {link}.", page) == ["36.1"]
    assert unfounded(f"From 41 to 43 % {link}.", page) == ["41"]
    assert unfounded(f"## a\n36.17\n## b\n{link}", page) == ["36.17"]
    assert unfounded("`36.17` 1.2.3 M45 95 % 1e-3\n```\n36.17\n```\n", page) == []
    assert unfounded("36.17\n<!-- figures: f.md -->\n99.99\n<!-- end -->\n", page) == ["36.17"]
