"""A network and its transform from Python, and in a file."""

import pytest
import torch
from torch import nn

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones.base import Squash
from mlfsic_bench.features.backbones.objects import as_backbone
from mlfsic_bench.features.backbones.registry import build_backbone, build_backbones

SQUASH = Squash(16)


class Maps(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 5, 4, stride=4)

    def forward(self, x):
        return self.conv(x)


class Scaled(Maps):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale


class Tokens(Maps):
    def __init__(self, prefix=1):
        super().__init__()
        self.prefix = nn.Parameter(torch.ones(1, prefix, 5))

    def forward(self, x):
        tokens = self.conv(x).flatten(2).transpose(1, 2)
        return torch.cat([self.prefix.expand(len(x), -1, -1), tokens], 1)


class Pair(Maps):
    def forward(self, x):
        maps = self.conv(x)
        return maps, maps.amax((2, 3))[:, :4]


class Dictionary(Pair):
    def forward(self, x):
        maps, vectors = super().forward(x)
        return {"maps": maps, "vector": vectors}


class Listed(Maps):
    def forward(self, x):
        return [self.conv(x)]


def made(module, transform=SQUASH, **options):
    torch.manual_seed(0)
    return as_backbone(module(), transform, name="mine", **options)


@pytest.mark.parametrize(
    ("module", "options", "vector", "dim"),
    [
        (Maps, {}, "mean", 5),
        (Tokens, {"prefix_tokens": 1}, "class token", 5),
        (Tokens, {"prefix_tokens": 1, "vector": "mean"}, "mean", 5),
        (lambda: Tokens(3), {"prefix_tokens": 3}, "class token", 5),
        (lambda: Tokens(0), {"prefix_tokens": 0}, "mean", 5),
        (Pair, {"vector": "projection"}, "projection", 4),
        (Pair, {"vector": "mean"}, "mean", 5),
        (Dictionary, {"vector": "maxima of the map"}, "maxima of the map", 4),
    ],
)
def test_channels_grid_and_vector_are_found_by_a_trial(module, options, vector, dim):
    backbone = made(module, **options)
    assert (backbone.channels, backbone.grid) == (5, (4, 4))
    assert (backbone.vector, backbone.dim) == (vector, dim)
    x = torch.rand(2, 3, 16, 16)
    maps, vectors = backbone.features(x)
    assert vectors.shape == (2, dim)
    torch.testing.assert_close(maps, backbone.body.module.conv(x))


@pytest.mark.parametrize(
    ("module", "options", "said"),
    [
        (Tokens, {}, "nothing says which of them are no patches"),
        (Tokens, {"prefix_tokens": 2}, "don't make a map"),
        (Pair, {}, "nothing says what it is"),
        (Maps, {"vector": "class"}, "returns only a map"),
        (Listed, {}, "returns no map"),
        (lambda: nn.Linear(3, 3), {}, "fails on what its transform makes"),
        (lambda: len, {}, r"no torch\.nn\.Module"),
    ],
)
def test_what_must_be_said_and_what_is_no_network(module, options, said):
    with pytest.raises(BenchError, match=said):
        made(module, **options)


def to_float(image):
    return SQUASH(image)


@pytest.mark.parametrize(
    ("transform", "options", "said"),
    [
        (to_float, {}, "nothing says what the transform"),
        (None, {}, "can't be called"),
        (lambda image: image, {"transform_id": "as it is"}, "gives no input for a network"),
        (lambda image: SQUASH(image).double(), {"transform_id": "float64"}, "float64"),
        (lambda i: SQUASH(i) + torch.rand(1), {"transform_id": "noise"}, "is random"),
    ],
)
def test_transforms_that_cannot_be_used(transform, options, said):
    with pytest.raises(BenchError) as error:
        made(Maps, transform, **options)
    assert said in str(error.value)


def test_transforms_of_torchvision_say_themselves_what_they_do():
    from torchvision import transforms

    transform = transforms.Compose([transforms.Resize((16, 16)), transforms.ToTensor()])
    backbone = made(Maps, transform)
    assert "Resize" in backbone.transform_id
    assert "\n" not in backbone.transform_id
    assert backbone.input_size == 16
    assert made(Maps, to_float, transform_id="mine, 1").transform_id == "mine, 1"


def test_the_identity_holds_weights_structure_and_code():
    class Doubled(Maps):
        def forward(self, x):
            return 2 * self.conv(x)

    class Tripled(Maps):
        def forward(self, x):
            return 3 * self.conv(x)

    hashes = {made(kind).weights_hash for kind in (Maps, Doubled, Tripled)}
    assert len(hashes) == 3
    assert made(Doubled).weights_hash == made(Doubled).weights_hash
    torch.manual_seed(1)
    assert as_backbone(Maps(), SQUASH, name="mine").weights_hash not in hashes
    scaled = [Scaled(given) for given in (2, 3, [2, 3], torch.ones(2), torch.zeros(2))]
    for one in scaled:
        one.load_state_dict(scaled[0].state_dict())
    found = [as_backbone(m, SQUASH, name="m").weights_hash for m in (*scaled, scaled[0])]
    assert (len(set(found)), found[0]) == (5, found[5])
    layers = [nn.Sequential(nn.Conv2d(3, 5, 4, 4), act) for act in (nn.ReLU(), nn.GELU())]
    for one in layers:
        one[0].load_state_dict(layers[0][0].state_dict())
    assert len({as_backbone(m, SQUASH, name="m").weights_hash for m in layers}) == 2


FILE = """
import torch
from torch import nn
from mlfsic_bench.features.backbones.base import Squash
from mlfsic_bench.features.backbones.objects import as_backbone

def build(weights):
    return nn.Conv2d(3, 4, 8, stride=8), Squash(32)

def named(weights, vector=None):
    return as_backbone(nn.Conv2d(3, 4, 8, stride=8), Squash(32), name="{name}")

number = 3

def wrong(weights):
    return [1]

def fails(weights):
    raise ValueError("no luck")
"""


def test_a_function_in_a_file(tmp_path):
    file = tmp_path / "nets.py"
    file.write_text(FILE.replace("{name}", "my-net"))
    state = torch.random.get_rng_state()
    backbone = build_backbone(f"{file}:build", "none")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (backbone.name, backbone.channels, backbone.grid) == ("nets.py:build", 4, (4, 4))
    assert build_backbone(f"{file}:build", "none").weights_hash == backbone.weights_hash
    assert build_backbone(f"{file}:named@mean").name == "my-net@mean"
    file.write_text(FILE + "# changed\n")
    assert build_backbone(f"{file}:build", "none").weights_hash != backbone.weights_hash
    for name, said in (
        ("number", "no function"), ("wrong", "gives no backbone"), ("fails", "no luck"),
        ("bild", "did you mean"), ("build@class", "no choice of global vectors"),
    ):  # fmt: skip
        with pytest.raises(BenchError) as error:
            build_backbone(f"{file}:{name}")
        assert said in str(error.value)
    file.write_text(FILE.replace("{name}", "resnet50"))
    with pytest.raises(BenchError, match="name of another backbone"):
        build_backbone(f"{file}:named")


def test_objects_in_place_of_names():
    one = made(Maps)
    assert build_backbones(one) == (one,)
    (pair,) = build_backbones((Maps(), SQUASH))
    assert pair.name == "Maps"
    other = as_backbone(Maps(), SQUASH, name="other")
    assert [b.name for b in build_backbones([one, other])] == ["mine", "other"]
    for bad in (Maps(), 3, [one, 3]):
        with pytest.raises(BenchError, match="is no backbone"):
            build_backbones(bad)
    with pytest.raises(BenchError, match="not a list"):
        build_backbones([one, one])
