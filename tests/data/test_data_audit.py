"""The audit of images: every planted fault in a made tree of 2,000 images, and nothing else."""

from __future__ import annotations

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.audit import KINDS, audit_images
from mlfsic_bench.data.registry import open_dataset
from tests.fakes.faulty import Planted, write_faulty

DEFINITIONS = {"coco": "coco-52-12-16-open-v1", "voc": "voc-8-6-6-v1"}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Planted]]:
    root = tmp_path_factory.mktemp("faulty")
    return root, write_faulty(root)


def call(*args: object, code: int = 0) -> str:
    done = CliRunner().invoke(cli, ["splits", *map(str, args)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout


def state(root: Path) -> str:
    """A hash of all names, kinds, sizes and times below a folder."""
    lines = []
    for folder, _, names in sorted(os.walk(root)):
        about = [(name, os.lstat(Path(folder, name))) for name in sorted(names)]
        lines += [(folder, n, a.st_mode, a.st_size, a.st_mtime_ns) for n, a in about]
    return hashlib.sha256(repr(lines).encode()).hexdigest()


def pairs(found: dict[str, Any]) -> list[tuple[str, str]]:
    return sorted((finding["image"], finding["kind"]) for finding in found["files"]["findings"])


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_the_audit_finds_every_planted_fault_and_nothing_else(name, tree, tmp_path):
    root, everything = tree
    planted = everything[name]
    assert {kind for _, kind in planted} == set(KINDS)
    split, exclusions = tmp_path / "split.json", tmp_path / "exclude.txt"
    call("build", DEFINITIONS[name], "--data-root", root, "--out", split)
    before = state(root)
    audit = ("audit", split, "--data-root", root)
    found = json.loads(call(*audit, "--exclusions", exclusions, "--format=json", code=1))
    assert state(root) == before
    assert pairs(found) == sorted(planted)
    assert all(
        KINDS[finding["kind"]] == finding["severity"] for finding in found["files"]["findings"]
    )
    listed = [line.split("#")[0].strip() for line in exclusions.read_text().splitlines()]
    wrong = {image for image, kind in planted if KINDS[kind] in ("bad", "duplicate")}
    assert [image for image in listed if image] == sorted(wrong)

    limited = tmp_path / "limited.json"
    call("build", DEFINITIONS[name], "--data-root", root, "--exclude", exclusions, "--out", limited)
    excluded = json.loads(limited.read_text())["subset"]["excluded"]
    assert sum(excluded["images"].values()) == len(wrong)
    again = json.loads(call("audit", limited, "--data-root", root, "--format=json"))
    assert pairs(again) == sorted(pair for pair in planted if pair[0] not in wrong)
    assert again["files"]["decoded"] == again["files"]["images"] == 1000 - len(wrong)


def test_the_quick_level_finds_what_needs_no_decoding(tree):
    root, everything = tree
    for name, planted in everything.items():
        found = audit_images(open_dataset(name, root), full=False)
        seen = {(finding.image_id, finding.kind) for finding in found.findings}
        assert found.decoded is None
        assert seen <= planted
        unseen = {kind for _, kind in planted - seen}
        decoding = {"half-grey", "corrupt", "too-large", "duplicate", "truncated"}
        assert unseen <= decoding | {kind for kind in KINDS if KINDS[kind] == "odd"}


def test_the_table_counts_each_kind_and_names_a_few(tree):
    root, everything = tree
    text = call("audit", DEFINITIONS["coco"], "--data-root", root, "--quick", code=1)
    missing = sorted(image for image, kind in everything["coco"] if kind == "missing")
    assert f"  bad        missing       {len(missing):>7}  {missing[0]} (no such file" in text
    assert "image files: 1,000 needed" in text
    assert text.endswith("  all of them: --format json\n")


def test_synthetic_images_are_sound():
    scenes = open_dataset("scenes", None)
    found = audit_images(scenes, scenes.annotations().image_ids[:2])
    assert (found.images, found.decoded, found.findings) == (2, 2, ())


def test_equal_pixels_across_folders_are_named_with_the_first(tree):
    root, everything = tree
    found = audit_images(open_dataset("voc", root))
    copies = {image for image, kind in everything["voc"] if kind == "duplicate"}
    assert {image for group in found.groups for image in group[1:]} == copies
    for group in found.groups:
        for image in group[1:]:
            assert found.exclusions()[image] == f"duplicate: the same pixels as {group[0]}"


def test_the_page_explains_each_kind_with_its_severity():
    page = Path(__file__).parents[2].joinpath("docs", "audit.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^\| `([\w-]+)` \| (\w+) \|", page, re.M)) == KINDS
