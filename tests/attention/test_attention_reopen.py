import hashlib
import shutil

import pytest
from click.testing import CliRunner
from PIL import Image as PILImage

from mlfsic_bench.cli.main import cli
from mlfsic_bench.errors import BenchError
from mlfsic_bench.harness.plan import RunPlan
from mlfsic_bench.harness.run import run_method
from mlfsic_bench.report.reopen import Whereabouts, reopen

TINY = {
    "epochs": "2",
    "warmup_epochs": "1",
    "steps_per_epoch": "1",
    "d_j": "16",
    "d_mlp": "16",
    "n_a": "2",
    "select_every": "2",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run of the paper's model, hardly trained, on live features of scenes."""
    out = tmp_path_factory.mktemp("attention")
    plan = RunPlan(
        method="word-guided-attention",
        split="scenes-12-6-6-v1",
        backbone="scenes-small",
        settings=TINY,
        episodes=1,
        device="cpu",
        cache=out / "cache",
        batch_size=64,
        out=out / "run",
    )
    return run_method(plan)


def test_the_same_method_is_opened_again(folder):
    run = reopen(folder, Whereabouts(cache=folder.parent / "cache"))
    method, support = run.episode(0)
    assert method.params.d_j == 16
    assert len(support.images) == 6
    assert tuple(method.attention_scores(support, 0).shape[1:]) == (2, 7, 7)
    with pytest.raises(BenchError, match="has no episode 1"):
        run.episode(1)


def test_the_verb_writes_a_picture(folder, tmp_path):
    cache = str(folder.parent / "cache")
    out = tmp_path / "a.png"
    done = CliRunner().invoke(cli, ["attention", str(folder), "--out", str(out), "--cache", cache])
    assert done.exit_code == 0, done.output
    assert "lies on the object in" in done.output
    with PILImage.open(out) as picture:
        assert picture.size[0] > 600


def test_other_inputs_are_refused(folder, tmp_path):
    torn = tmp_path / "run"
    shutil.copytree(folder, torn)
    text = (torn / "record.json").read_text()
    digest = hashlib.sha256(b"another").hexdigest()
    key = reopen(folder, Whereabouts()).record.key
    (torn / "record.json").write_text(text.replace(key, digest))
    with pytest.raises(BenchError, match="is not what is here now"):
        reopen(torn, Whereabouts())


def test_a_run_without_a_saved_method_is_an_error(folder, tmp_path):
    torn = tmp_path / "run"
    shutil.copytree(folder, torn)
    (torn / "method.pt").unlink()
    with pytest.raises(BenchError, match="no saved method"):
        reopen(torn, Whereabouts()).episode(0)
