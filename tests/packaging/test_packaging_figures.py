"""Figures in the pages: blocks and values are fresh, chance levels right, pictures exist."""

import re
from pathlib import Path

import numpy as np
import pytest

from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.metrics.average_precision import expected_random_ap
from mlfsic_bench.metrics.registry import chance_levels
from mlfsic_bench.splits.resolve import resolve_split
from tools.refresh_docs import COMMAND, blocks, pages, refresh

ROOT = Path(__file__).resolve().parents[2]
PAGES = pages(ROOT)


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_every_block_and_value_is_fresh(page):
    made = refresh(page, ROOT)
    assert made == page.read_text("utf-8"), f"{relative(page)} is stale: run `{COMMAND}`"


def test_there_are_blocks_and_values():
    texts = {page: page.read_text("utf-8") for page in PAGES}
    assert [b for page, text in texts.items() for b in blocks(text, relative(page))]
    assert sum(text.count("<!-- value: ") for text in texts.values()) > 20


def test_chance_levels_of_the_claims_page_are_computed():
    text = (ROOT / "docs" / "claims.md").read_text("utf-8")
    # positives of all labels together, of one label; with 1.25 labels an image a quarter more
    for dataset, labels, images in (("COCO", 16, 64), ("VOC", 6, 24)):
        micro = [expected_random_ap(m, labels * images) for m in (images, images * 5 // 4)]
        macro = [expected_random_ap(m, images) for m in (4, 5)]
        cells = " | ".join(f"{100 * level:.2f}" for level in (*micro, *macro))
        assert f"| {dataset}, {labels} labels, {images} images | {cells} |" in text
    split = resolve_split("voc-8-6-6-v1", data_root=None)
    y = dict(zip(split.novel.image_ids, split.novel.targets, strict=True))
    episodes = find_episodes(None, split).episodes
    targets = np.array([[y[image] for image in episode.query] for episode in episodes])
    micro, macro = chance_levels(targets)
    drawn = f"it is {targets.sum(axis=2).mean():.2f}, where chance is {100 * micro:.1f} (micro)"
    assert f"{drawn} and {100 * macro:.1f} (macro)" in text


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_pictures_exist(page):
    for target in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text("utf-8")):
        picture = page.parent / target
        assert picture.is_file(), f"{relative(page)} shows {target}"
        assert picture.read_bytes().startswith((b"\x89PNG", b"<svg", b"<?xml")), target
