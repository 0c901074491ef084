"""`backbones check` on faulty backbones in files: each is caught, and the fault is named."""

import json
import sys

import pytest
from click.testing import CliRunner

from mlfsic_bench.cli.main import cli
from mlfsic_bench.data.registry import open_dataset
from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.registry import BACKBONES, PROVIDERS, build_backbone
from mlfsic_bench.features.extract import extract
from mlfsic_bench.features.live import LiveFeatures
from mlfsic_bench.plugins.source import read_function
from mlfsic_bench.testing.backbone_check import check_backbone

HEAD = """
import threading, time
import numpy as np
import torch
from torch import nn
from mlfsic_bench.features.backbones.base import Backbone, Squash
from mlfsic_bench.features.backbones.objects import Named, as_backbone

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 4, stride=4)
        self.norm = nn.BatchNorm2d(6)
        self.act = nn.ReLU()
    def forward(self, x):
        return self.act(self.norm(self.conv(x)))

def made(body=None, transform=Squash(16), **said):
    said = {"channels": 6, "grid": (4, 4), **said}
    return Backbone("faulty", body or Net(), transform=transform, weights="none", **said)
"""

# name -> (source, the test that fails, words of its explanation)
FAULTS = {
    "wrong channels": ("def build(weights): return made(channels=7)", "maps", "declare channels=6"),
    "wrong grid": ("def build(weights): return made(grid=(5, 5))", "maps", "grid=(4, 4)"),
    "height and width swapped": ("""
class Wide(Net):
    def forward(self, x): return super().forward(x)[:, :, :2]
def build(weights): return made(Wide(), grid=(4, 2))
""", "maps", "height and width in the wrong order"),
    "channels last": ("""
class Last(Net):
    def forward(self, x): return super().forward(x).permute(0, 2, 3, 1)
def build(weights): return made(Last())
""", "maps", "channels last"),
    "wrong width of the vector": ("""
class Two(Net):
    def forward(self, x):
        maps = super().forward(x)
        return maps, maps.amax((2, 3))
def build(weights): return made(Two(), vector="maxima", dim=5)
""", "vector", "wrong dim"),
    "a mean that is none": ("""
class Own(Backbone):
    def features(self, x):
        maps = self.body(x)
        return maps, maps.amax((2, 3))
def build(weights):
    return Own("faulty", Net(), channels=6, grid=(4, 4), transform=Squash(16), weights="none")
""", "vector", "say what it is with vector="),
    "tokens where a map was promised": ("""
class Tokens(Net):
    def forward(self, x): return super().forward(x).flatten(2).transpose(1, 2)

class Both(Tokens):
    def forward(self, x): return super().forward(x), super().forward(x).mean(1)
def build(weights): return made(Both(), vector="class token")
""", "maps", "prefix_tokens"),
    "a class token where a map was promised": ("""
class Token(Net):
    def forward(self, x):
        first = super().forward(x).mean((2, 3))
        return first, first
def build(weights): return made(Token(), vector="class token")
""", "maps", "a class token or a pooled vector where a map was promised"),
    "random transform": ("""
def build(weights):
    noisy = Named(lambda i: Squash(16)(i) + torch.rand(1), "noisy", 16)
    return made(transform=noisy)
""", "transform-same", "random crop"),
    "transform that depends on the batch": ("""
class Running:
    mean = 0.0
    last = None
    def __call__(self, image):
        x = Squash(16)(image)
        if self.last is None or not torch.equal(x, self.last):
            self.mean = 0.9 * self.mean + float(x.mean())
        self.last = x
        return x - self.mean
def build(weights): return made(transform=Named(Running(), "running", 16))
""", "transform-same", "keeps something of the images"),
    "transform of another size": ("""
def build(weights): return made(transform=Named(Squash(20), "x", 16))
""", "transform", "[3, 16, 16]"),
    "transform in bytes": ("""
def build(weights):
    return made(transform=Named(lambda i: Squash(16)(i).to(torch.uint8), "x", 16))
""", "transform", "uint8 [3, 16, 16]"),
    "transform in place": ("""
def shrink(image):
    image.paste((0, 0, 0), (0, 0, 5, 5))
    return Squash(16)(image)
def build(weights): return made(transform=Named(shrink, "x", 16))
""", "transform-image", "in place"),
    "batch norm in training mode": ("""
class Training(Net):
    def train(self, mode=True): return super().train(True)
def build(weights): return made(Training())
""", "alone", "batch norm in training mode"),
    "a norm over the batch": ("""
class Batch(Net):
    def forward(self, x):
        maps = super().forward(x)
        return maps - maps.mean(0)
def build(weights): return made(Batch())
""", "alone", "over the batch"),
    "NaN": ("""
class Nan(Net):
    def forward(self, x): return super().forward(x) / 0 * 0
def build(weights): return made(Nan())
""", "maps", "NaN or infinity"),
    "state changed by a pass": ("""
class Counting(Net):
    def __init__(self):
        super().__init__()
        self.register_buffer("passes", torch.zeros(1))
    def forward(self, x):
        self.passes += 1
        return super().forward(x)
def build(weights): return made(Counting())
""", "unchanged", "body.passes"),
    "moves itself to another type": ("""
class Half(Net):
    def forward(self, x):
        self.double()
        return super().forward(x.double()).float()
def build(weights): return made(Half())
""", "unchanged", ".half()"),
    "draws from the global generator": ("""
class Drawing(Net):
    def forward(self, x):
        torch.rand(1)
        return super().forward(x)
def build(weights): return made(Drawing())
""", "unchanged", "torch.random"),
    "not deterministic": ("""
class Noisy(Net):
    def forward(self, x): return nn.functional.dropout(super().forward(x), 0.5, training=True)
def build(weights): return made(Noisy())
""", "deterministic", "dropout"),
    "other weights at each build": ("""
def build(weights):
    net = Net()
    own = torch.Generator().manual_seed(time.time_ns() % 2**40)
    nn.init.normal_(net.conv.weight, generator=own)
    return made(net)
""", "same-weights", "not seeded"),
    "cannot be copied": ("""
class Locked(Net):
    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
def build(weights): return made(Locked())
""", "copy", "lock"),
    "a pair with something between": ("""
class Between(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 6, 4, stride=4), nn.BatchNorm2d(6)
        self.norm.running_mean.fill_(0.5)
    def forward(self, x): return self.norm(torch.relu(self.conv(x)))
def build(weights): return made(Between(), conv_norm_pairs=(("conv", "norm"),))
""", "folded", "conv_norm_pairs"),
    "a forward that names a type": ("""
class Fixed(Net):
    def forward(self, x): return super().forward(x).float()
def build(weights): return made(Fixed())
""", "weights-move", "x.dtype"),
    "no gradient": ("""
class Frozen(Net):
    @torch.no_grad()
    def forward(self, x): return super().forward(x)
def build(weights): return made(Frozen())
""", "trainable", "no_grad"),
    "another first pass": ("""
class First(Net):
    passes = 0
    def forward(self, x):
        self.passes += 1
        return super().forward(x) * min(self.passes, 2)
def build(weights): return made(First())
""", "deterministic", "a state that each pass moves"),
    "ends the program": ("""
import os
class Ends(Net):
    def forward(self, x): os._exit(0)
def build(weights): return made(Ends())
""", "maps", "os._exit(0) was called"),
    "a name of two lines": ("""
def build(weights):
    backbone = made()
    backbone.name = "a\\nb"
    return backbone
""", "build", "name: one line of plain text"),
    "a name with +": ("""
def build(weights):
    backbone = made()
    backbone.name = "a+b"
    return backbone
""", "build", "without +"),
    "an id of a transform in two lines": ("""
def build(weights): return made(transform=Named(Squash(16), "a\\nb", 16))
""", "build", "id of its transform"),
    "channels in words": (
        "def build(weights): return made(channels='6')", "build", "a whole number"
    ),
    "a grid of three": ("def build(weights): return made(grid=(4, 4, 4))", "build", "(4, 4, 4)"),
    "does not build": ("def build(weights): raise ValueError('no luck')", "build", "no luck"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_backbone_is_caught(fault, tmp_path):
    source, test, words = FAULTS[fault]
    file = tmp_path / "faulty.py"
    file.write_text(HEAD + source)
    results = {r.name: r for r in check_backbone(lambda: build_backbone(f"{file}:build", "none"))}
    found = results[test]
    assert found.status == ("warn" if fault == "no gradient" else "fail"), results
    assert words in " ".join(text for _, text in found.explanation)
    if test not in ("build", "maps") or "likely cause" in dict(found.explanation):
        headings = {heading for heading, _ in found.explanation}
        assert headings == {"done", "expected", "came", "likely cause", "remedy"}
    # what is wrong is said once, not by every test
    if fault != "ends the program":
        assert [r.name for r in results.values() if r.status == "fail"][3:] == []


# what a backbone does while features are extracted -> what the error says
FAILURES = {
    "an exception in the transform": ("def t(i): 1 / 0", "its transform made an input"),
    "an exit in the transform": ("def t(i): exit(0)", "SystemExit: 0"),
    "the end in a thread": ("import os\ndef t(i): os._exit(0)", "os._exit(0) was called"),
    "inputs of another size": ("def t(i): return Squash(20)(i)", "float32 [3, 20, 20]"),
    "inputs that are arrays": ("def t(i): return Squash(16)(i).numpy()", "numpy.ndarray"),
    "an exception in the network": (
        "class Net(Net):\n def forward(self, x): 1 / 0", "while it made features",
    ),
    "an exit in the network": ("class Net(Net):\n def forward(self, x): exit(0)", "SystemExit: 0"),
    "other maps than declared": (
        "class Net(Net):\n def forward(self, x): return super().forward(x)[:, :5]", "[2, 5, 4, 4]",
    ),
    "whole numbers": (
        "class Net(Net):\n def forward(self, x): return super().forward(x).int()", "int32",
    ),
    "no copy": ("class Net(Net):\n def __deepcopy__(self, memo): 1 / 0", "while it was copied"),
}  # fmt: skip


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_in_use_is_one_error(failure, tmp_path):
    source, words = FAILURES[failure]
    transform = "Named(t, 't', 16)" if "def t" in source else "Squash(16)"
    file = tmp_path / "faulty.py"
    file.write_text(f"{HEAD}{source}\ndef build(weights): return made(transform={transform})")
    backbone = build_backbone(f"{file}:build", "none")
    dataset = open_dataset("scenes", None)
    ids = dataset.annotations().image_ids[:2]
    with pytest.raises(BenchError, match="the backbone 'faulty'") as stored:
        extract(dataset, ids, backbone, tmp_path / "store", workers=2, log=str)
    assert words in str(stored.value)
    if failure != "no copy":
        with pytest.raises(BenchError) as live:
            LiveFeatures(build_backbone(f"{file}:build", "none"), dataset).local(ids)
        assert live.value.what == stored.value.what


def mlfsic(*arguments):
    return CliRunner().invoke(cli, ["backbones", *map(str, arguments)])


def test_a_new_backbone_passes_check_and_says_what_it_is(tmp_path):
    file = tmp_path / "mine.py"
    assert mlfsic("new", file).exit_code == 0
    checked = mlfsic("check", f"{file}:build", "--format", "json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["counts"]["fail"] == 0
    (about,) = json.loads(mlfsic("show", f"{file}:build@mean", "--format", "json").output)
    assert (about["name"], about["map"], about["vector"]) == ("my-network@mean", [64, 7, 7], "mean")
    again = mlfsic("new", file)
    assert "a file that is there" in str(again.exception)


def test_check_on_the_command_line_exits_with_1_and_explains(tmp_path):
    file = tmp_path / "faulty.py"
    file.write_text(HEAD + FAULTS["wrong channels"][0])
    done = mlfsic("check", f"{file}:build")
    assert done.exit_code == 1
    assert "declare channels=6" in done.output
    assert "1 failed" in done.output
    assert "unknown backbone" in str(mlfsic("check", "resnet5O").exception)


@pytest.mark.parametrize(
    ("door", "name"), [(door, name) for door in (BACKBONES, PROVIDERS) for name in door.names()]
)
def test_what_is_read_of_a_function_is_what_it_says(door, name):
    function = door.find(name)
    read = read_function(door.own_place(name), {"NEEDS": None})
    assert read.__doc__ == function.__doc__
    needs = getattr(sys.modules[function.__module__], "NEEDS", None)
    assert needs == read.NEEDS


def test_a_function_that_needs_running_to_be_known_is_left_to_be_imported():
    assert read_function("mlfsic_bench.features.backbones.base:Backbone", {}) is None
    assert read_function("mlfsic_bench.features.backbones.lite:none", {}) is None
    assert read_function("mlfsic_bench.features.backbones.hf_models:build", {"ID": None}) is None


def test_list_and_show():
    shown = mlfsic("list").output
    for name in ("efficientnet-lite0", "resnet50", "timm:", "hf:", "path/to/file.py:build"):
        assert name in shown
    found = json.loads(mlfsic("list", "--format", "json").output)
    assert [row["name"] for row in found["providers"]] == [
        "hf", "open_clip", "timm", "torchvision",
    ]  # fmt: skip
    shown = mlfsic("show", "timm:test_resnet").output
    assert "96 x 5 x 5" in shown
    assert "not found: a file at" in shown
    shown = mlfsic("show", "scenes-small+scenes-patch").output
    assert shown.count("in the package") == 2
