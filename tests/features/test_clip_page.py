"""docs/clip.md word for word: a tiny random CLIP through the methods that read texts."""

from pathlib import Path

import pytest

from mlfsic_bench.evaluation.record import read_record
from tests.pages import run_page

pytest.importorskip("transformers")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("clip")
    return folder, run_page("clip.md", folder)


def test_a_network_with_a_text_side_goes_through_three_methods(page):
    folder, printed = page
    records = {name: read_record(folder / "runs" / name) for name in ("zero-shot", "paper")}
    features = records["zero-shot"].features
    assert features is not None
    assert (features.channels, list(features.grid), features.dim) == (32, [4, 4], 24)
    assert features.vector == "projection"
    words = records["zero-shot"].words
    assert words is not None
    assert (words.space, words.templates) == ("hf:./tiny-clip", ["a photo of a {}."])
    words = records["paper"].words
    assert words is not None
    assert words.templates == ["a photo of a {}.", "a drawing of a {}."]
    assert all(record.audit_status == "passed" for record in records.values())
    table = printed["table runs/zero-shot runs/protonet runs/paper"]
    assert all(name in table for name in ("Zero-shot", "ProtoNet", "Yan et al."))


def test_the_texts_written_to_a_file_are_those_of_the_run(page):
    folder, _ = page
    given = read_record(folder / "runs" / "from-file")
    own = read_record(folder / "runs" / "zero-shot")
    for name, value in own.metrics.items():
        assert given.metrics[name].mean == pytest.approx(value.mean, abs=1e-6)


def test_texts_and_support_images_together(page):
    folder, printed = page
    for name in ("tip-adapter", "text-probe", "multipf"):
        record = read_record(folder / "runs" / name)
        assert record.audit_status == "passed"
        assert record.words is not None
        assert record.words.space == "hf:./tiny-clip"
    table = printed["table runs/zero-shot runs/tip-adapter runs/text-probe runs/multipf"]
    assert all(name in table for name in ("Tip-Adapter", "CLAP", "MultiPF"))
