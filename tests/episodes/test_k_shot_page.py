"""docs/k-shot.md word for word: every command and every line of Python on the page is run.

The photographs of VOC are stood in for by small JPEG files under the names of those that the page's
episodes have.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mlfsic_bench.cli.main import cli
from mlfsic_bench.episodes.files import find_episodes
from mlfsic_bench.episodes.protocol import find_protocol
from mlfsic_bench.evaluation.record import read_record
from mlfsic_bench.evaluation.scores import read_scores
from mlfsic_bench.results.published import is_counterpart, read_published
from mlfsic_bench.splits.resolve import resolve_split
from tests.fakes.jpeg import jpeg
from tests.pages import run_page

pytestmark = pytest.mark.slow

PAGE = Path(__file__).resolve().parents[2] / "docs" / "k-shot.md"
Printed = dict[str, str]


def write_photographs(root: Path) -> None:
    split = resolve_split("voc-8-6-6-v1", data_root=None)
    needed: set[str] = set()
    for shots, queries, count in ((1, 4, 10), (5, 4, 10), (10, 15, 2)):
        episodes = find_protocol(shots=shots, queries=queries).draw(split, "novel", range(count))
        needed.update(image for one in episodes for image in (*one.support, *one.query))
    some = [jpeg(seed) for seed in range(20)]
    for i, image in enumerate(sorted(needed)):
        year, _, number = image.partition("/")
        path = root / "VOCdevkit" / year / "JPEGImages" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(some[i % len(some)])


def call(*args: object) -> Result:
    return CliRunner().invoke(cli, [str(arg) for arg in args])


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Printed]:
    """The folder in which all blocks of the page were run, and what each command printed."""
    top = tmp_path_factory.mktemp("page")
    write_photographs(top / "DATA")
    return top, run_page("k-shot.md", top)


def test_what_the_page_says_is_printed(page: tuple[Path, Printed]) -> None:
    _, printed = page
    for words in ("5 support and 4 query images per label", "k_per_label-v1, K = 5, Q = 4"):
        assert words in printed["table runs/five"]
    assert "1 support and 4 query images per label" in printed["table runs/one"]
    assert "k_per_label-v1, K = 5, Q = 4" in printed["score runs/five"]
    assert "k_per_label-v1, K = 5, Q = 4" in printed["compare runs/attention runs/protonet"]
    verified = printed["episodes verify voc-8-6-6-v1"]
    assert verified.count("regenerates byte for byte") == 4
    assert "0 differ" in verified


def test_five_shot_runs(page: tuple[Path, Printed]) -> None:
    top, _ = page
    for name in ("five", "attention", "protonet"):
        folder = top / "runs" / name
        record = read_record(folder)
        assert (record.status, record.audit_status) == ("success", "passed")
        card = record.episodes
        assert (card.protocol, card.shots, card.queries) == ("k_per_label-v1", 5, 4)
        assert (card.count, card.total) == (10, 200)
        assert read_scores(folder / "scores.npz").meta.episodes == card
        assert read_scores(folder / "scores.npz").scores.shape == (10, 24, 6)
        assert not is_counterpart(record, read_published("yan-2022-table2"), "ProtoNet")
    one = read_record(top / "runs" / "one").episodes
    assert (one.protocol, one.shots, one.queries) == ("one_per_label-v1", None, None)
    refused = call("compare", top / "runs" / "one", top / "runs" / "five")
    assert "another protocol" in str(refused.exception)


def test_a_disjoint_set_has_one_interval(page: tuple[Path, Printed]) -> None:
    _, printed = page

    def widths(name: str) -> list[str]:
        found = re.search(
            r"macro_ap +[0-9.]+ +±([0-9.]+) +±([0-9.]+)", printed[f"score runs/{name}"]
        )
        assert found is not None
        return [*found.groups()]

    assert "no image is in two of them" in printed["score runs/disjoint"]
    said = PAGE.read_text("utf-8")
    assert widths("disjoint") == ["1.60", "1.60"]
    assert widths("usual") == ["0.80", "1.15"]
    assert "1.60 against 1.15 here" in said
    assert "(0.80)" in said
    for name, chance in (("disjoint", "34.19"), ("usual", "36.27")):
        assert f"macro-AP {chance}." in printed[f"score runs/{name}"]
        assert chance in said


def test_the_page_says_how_many_disjoint_episodes_there_are() -> None:
    text = PAGE.read_text("utf-8")
    for split, said in (
        ("voc-8-6-6-v1", "102 of one shot and 57 of five"),
        ("scenes-12-6-6-v1", "48 and 26"),
    ):
        assert said in text
        counts = [int(number) for number in re.findall(r"\d+", said)]
        resolved = resolve_split(split, data_root=None)
        for shots, count in zip((1, 5), counts, strict=True):
            found = find_episodes(find_protocol("disjoint_per_label", shots=shots), resolved)
            assert len(found.episodes) == count


def test_a_board_says_k_and_q(page: tuple[Path, Printed], tmp_path: Path) -> None:
    top, _ = page
    assert call("submit", "pack", top / "runs" / "protonet", "--out", tmp_path).exit_code == 0
    assert call("leaderboard", "build", "--results", tmp_path).exit_code == 0
    assert "6 novel labels, 5-shot" in (tmp_path / "board" / "leaderboard.md").read_text("utf-8")
    html = (tmp_path / "board" / "index.html").read_text("utf-8")
    assert "protocol k_per_label-v1, K = 5, Q = 4" in html
