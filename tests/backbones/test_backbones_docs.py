"""The blocks of docs/backbones.md, run word for word: a network to a table."""

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "backbones.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
PROVIDERS = ("torchvision", "timm", "open_clip", "hf")

pytestmark = pytest.mark.slow


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFSIC_CACHE", str(tmp_path / "cache"))


def mlfsic(line):
    words = shlex.split(line, comments=True)
    assert words[0] == "mlfsic-bench"
    done = CliRunner().invoke(cli, words[1:])
    assert done.exit_code == 0, (line, done.output, done.exception)
    return done.output


@pytest.mark.usefixtures("here")
def test_a_network_from_a_notebook_to_a_table(capsys):
    blocks = [text for kind, text in BLOCKS if kind == "python" and "my_network" not in text]
    names = {}
    for text in blocks:
        exec(compile(text, "<notebook>", "exec"), names)
    shown = capsys.readouterr().out
    assert "48 (7, 7) mean" in shown
    assert "protonet" in shown.lower()


@pytest.mark.usefixtures("here")
def test_a_network_in_a_file_to_a_table():
    (source,) = [text for _, text in BLOCKS if text.startswith("# my_network.py")]
    Path("my_network.py").write_text(source)
    (commands,) = [t for kind, t in BLOCKS if not kind and "run protonet" in t]
    said = [mlfsic(line) for line in commands.splitlines()]
    assert "0 failed" in said[0]
    (store,) = Path("cache").glob("scenes-my-network-*")
    verified = mlfsic(f"mlfsic-bench features verify {store} --backbone my_network.py:build")
    assert "checked: equal" in verified
    assert "protonet" in said[-1].lower()


def test_every_contract_test_and_provider_is_on_the_page():
    from mlfsic_bench.features.backbones.registry import backbone_names, provider_names
    from mlfsic_bench.testing.backbone_check import CHECKS

    text = PAGE.read_text("utf-8")
    for check in CHECKS:
        assert f"| `{check.name}` |" in text
    assert set(provider_names()) == set(PROVIDERS)
    for name in (*PROVIDERS, *(n for n in backbone_names() if "lite" not in n)):
        assert f"`{name}" in text
