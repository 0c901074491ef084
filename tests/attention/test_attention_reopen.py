import hashlib
import shutil

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from mlfsic_bench.analysis.attention import picture
from mlfsic_bench.analysis.attention.picture import draw_attention
from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.evaluation.plan import RunPlan
from mlfsic_bench.evaluation.runner import run_method
from mlfsic_bench.results.reopen import RunPaths, reopen
from tests.attention.conftest import TINY

pytestmark = pytest.mark.slow


def test_the_same_method_is_opened_again(folder):
    run = reopen(folder, RunPaths())
    method, support = run.episode(0)
    assert method.params.d_j == 16
    assert len(support.images) == 6
    assert tuple(method.attention_scores(support, 0).shape[1:]) == (2, 7, 7)
    with pytest.raises(BenchError, match="has no episode 1"):
        run.episode(1)


def test_the_verb_writes_a_picture(folder, tmp_path, scenes_cache):
    cache = str(scenes_cache)
    out = tmp_path / "a.png"
    done = CliRunner().invoke(cli, ["attention", str(folder), "--out", str(out), "--cache", cache])
    assert done.exit_code == 0, done.output
    assert "lies on the object in" in done.output
    with PILImage.open(out) as drawn:
        assert drawn.size[0] > 600


def test_other_inputs_are_refused(folder, tmp_path):
    torn = tmp_path / "run"
    shutil.copytree(folder, torn)
    text = (torn / "record.json").read_text()
    digest = hashlib.sha256(b"another").hexdigest()
    key = reopen(folder, RunPaths()).record.key
    (torn / "record.json").write_text(text.replace(key, digest))
    with pytest.raises(BenchError, match="is not what is here now"):
        reopen(torn, RunPaths())


def test_a_run_without_a_saved_method_is_an_error(folder, tmp_path):
    torn = tmp_path / "run"
    shutil.copytree(folder, torn)
    (torn / "method.pt").unlink()
    with pytest.raises(BenchError, match="no saved method"):
        reopen(torn, RunPaths()).episode(0)


@pytest.mark.parametrize(
    ("ending", "start"), [("svg", b"<?xml"), ("pdf", b"%PDF"), ("PNG", b"\x89PNG")]
)
def test_the_ending_says_the_format(folder, tmp_path, ending, start):
    first, second = tmp_path / f"a.{ending}", tmp_path / f"b.{ending}"
    for out in (first, second):
        draw_attention(folder, RunPaths(), out, images=1)
    assert first.read_bytes().startswith(start)
    assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def drawn(monkeypatch):
    """What is handed to the drawing, by every call."""
    calls = []

    def draw(strips, title, form):
        calls.append(strips)
        return b""

    monkeypatch.setattr(picture, "draw", draw)
    return calls


def test_images_and_labels_limit_the_picture(folder, tmp_path, drawn):
    def panels(*options):
        command = ["attention", str(folder),
                   "--out", str(tmp_path / "a.png"), *options]  # fmt: skip
        done = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return [[panel.label for panel in strip.panels] for strip in drawn[-1]]

    whole = panels()
    assert len(whole) == 6
    assert len(panels("--images", "2")) == 2
    label = whole[0][0]
    assert {name for strip in panels("--labels", label) for name in strip} == {label}
    assert len({name for strip in whole for name in strip}) == 6


def test_heads_draw_each_head_of_the_same_images(folder, tmp_path, drawn):
    plain = draw_attention(folder, RunPaths(), tmp_path / "a.png", images=2)
    command = ["attention", str(folder), "--images", "2", "--heads"]
    done = CliRunner().invoke(cli, [*command, "--out", str(tmp_path / "a.png")])
    assert done.exit_code == 0, done.output
    first_line, second_line = done.output.splitlines()
    assert first_line == plain  # the hits are those of the sum
    assert second_line.startswith("entropy of the attention weights: ")
    assert "(1 episodes, 6 maps; " in second_line
    first, second = drawn
    assert {strip.image_id for strip in first} == {strip.image_id for strip in second}
    assert len(second) == sum(len(strip.panels) for strip in first)
    for strip in second:
        assert [panel.label for panel in strip.panels[1:]] == ["head 0", "head 1"]
        summed = strip.panels[1].scores + strip.panels[2].scores
        assert strip.panels[0].scores == pytest.approx(summed)


def test_supports_are_those_of_the_episodes(folder):
    run = reopen(folder, RunPaths())
    method, supports = run.supports()
    (support,) = supports
    alone, same = run.episode(0)
    assert support.images.ids == same.images.ids
    assert support.seed == same.seed
    a, b = (m.attention_scores(s, 0) for m, s in ((method, support), (alone, same)))
    assert np.allclose(a, b, rtol=1e-5, atol=1e-5)
    for count in (0, 2):
        with pytest.raises(BenchError, match=f"no {count} episodes"):
            run.supports(count)


def test_a_method_in_a_file_is_recalled_or_named_with_method(folder, tmp_path, drawn):
    file = tmp_path / "own.py"
    file.write_text(
        "from mlfsic_bench.methods.word_guided.method import WordGuidedAttentionMethod\n"
        "class Own(WordGuidedAttentionMethod):\n"
        "    name = 'own'\n"
    )
    plan = RunPlan(
        method=f"{file}:Own",
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        settings=TINY,
        episodes=1,
        device="cpu",
        out=tmp_path / "run",
    )
    command = ["attention", str(run_method(plan))]
    command += ["--out", str(tmp_path / "a.png")]
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    (tmp_path / "elsewhere").mkdir()
    moved = file.rename(tmp_path / "elsewhere" / "own.py")
    with pytest.raises(BenchError, match="is in a file"):
        CliRunner().invoke(cli, command, catch_exceptions=False)
    command += ["--method", f"{moved}:Own"]
    assert CliRunner().invoke(cli, command, catch_exceptions=False).exit_code == 0
    assert len(drawn) == 2
