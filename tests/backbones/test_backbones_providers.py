"""Networks of torchvision, timm, open_clip and transformers as backbones."""

import inspect
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mlfsic_bench.errors import BenchError
from mlfsic_bench.features.backbones import base
from mlfsic_bench.features.backbones import torchvision_models as tv
from mlfsic_bench.features.backbones.base import folded
from mlfsic_bench.features.backbones.registry import build_backbone, known_spec, parse_spec
from mlfsic_bench.offline import offline
from mlfsic_bench.testing.backbone_check import check_backbone
from tests.backbones.tiny_networks import add_open_clip, save_hf

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def passes(spec: str, weights: str = "none"):
    """The backbone, which passes `check`."""
    built = []

    def build():
        built.append(build_backbone(spec, weights))
        return built[-1]

    for result in check_backbone(build):
        assert result.status in ("pass", "skip"), (spec, result)
    return built[0]


# -- torchvision --------------------------------------------------------------------------------

# One network of each class of torchvision, the cheapest: channels, grid.
CLASSES = {
    "AlexNet": ("alexnet", 256, (6, 6)),
    "ConvNeXt": ("convnext_tiny", 768, (7, 7)),
    "DenseNet": ("densenet121", 1024, (7, 7)),
    "EfficientNet": ("efficientnet_b0", 1280, (7, 7)),
    "GoogLeNet": ("googlenet", 1024, (7, 7)),
    "Inception3": ("inception_v3", 2048, (8, 8)),
    "MaxVit": ("maxvit_t", 512, (7, 7)),
    "MNASNet": ("mnasnet0_5", 1280, (7, 7)),
    "MobileNetV2": ("mobilenet_v2", 1280, (7, 7)),
    "MobileNetV3": ("mobilenet_v3_small", 576, (7, 7)),
    "RegNet": ("regnet_x_400mf", 400, (7, 7)),
    "ResNet": ("resnet18", 512, (7, 7)),
    "ShuffleNetV2": ("shufflenet_v2_x0_5", 1024, (7, 7)),
    "SqueezeNet": ("squeezenet1_1", 512, (13, 13)),
    "SwinTransformer": ("swin_v2_t", 768, (8, 8)),
    "VGG": ("vgg11_bn", 512, (7, 7)),
    "VisionTransformer": ("vit_h_14", 1280, (37, 37)),
}


def test_every_classification_network_of_torchvision_is_of_a_class_that_is_tested():
    from torchvision import models

    names = models.list_models(module=models)
    kinds = {str(inspect.signature(models.get_model_builder(n)).return_annotation) for n in names}
    assert {kind.rpartition(".")[2].strip("'>") for kind in kinds} == set(CLASSES)
    assert len(names) >= 80


@pytest.mark.parametrize("kind", CLASSES)
def test_a_network_of_each_class_of_torchvision(kind, monkeypatch):
    """On the device `meta`, which computes shapes only."""
    from torchvision.models import regnet

    real = regnet.BlockParams.from_init_params

    def on_the_cpu(*args, **kwargs):
        with torch.device("cpu"):
            return real(*args, **kwargs)

    monkeypatch.setattr(regnet.BlockParams, "from_init_params", on_the_cpu)
    monkeypatch.setattr(base, "hash_weights", lambda state: "")
    name, channels, grid = CLASSES[kind]
    with torch.device("meta"):
        backbone = tv.build(name, "none")
    assert (backbone.channels, backbone.grid) == (channels, grid)
    assert backbone.vector == ("class token" if name.startswith("vit") else "mean")


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("resnet18", "fc"), ("mobilenet_v2", "classifier"), ("shufflenet_v2_x0_5", "fc"),
        ("mnasnet0_5", "classifier"), ("regnet_x_400mf", "fc"), ("efficientnet_b0", "classifier"),
    ],
)  # fmt: skip
def test_the_map_is_what_torchvision_pools(name, head, tmp_path, monkeypatch):
    """With running statistics that are no start values: the logits are those of the mean."""
    from torchvision import models

    monkeypatch.setattr(tv, "initialised", lambda build, name: build())
    net = models.get_model(name, weights=None).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.05)
                module.running_var.uniform_(0.8, 1.2)
    torch.save(net.state_dict(), tmp_path / "w.pth")
    backbone = build_backbone(f"torchvision:{name}", str(tmp_path / "w.pth"))
    x = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        maps, vectors = backbone.features(x)
        logits = getattr(net, head)(vectors)
        torch.testing.assert_close(logits, net(x), rtol=1e-3, atol=1e-4)
        quick = folded(backbone)
        assert (quick.features(x)[0] - maps).norm() < 1e-3 * maps.norm()
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in quick.modules())


def test_weights_of_torchvision_by_name():
    with pytest.raises(BenchError, match="IMAGENET1K_V3") as error:
        build_backbone("torchvision:resnet18/IMAGENET1K_V3", "none")
    assert "IMAGENET1K_V1" in error.value.expected
    with pytest.raises(BenchError, match="unknown classification"):
        build_backbone("torchvision:fcn_resnet50", "none")
    with pytest.raises(BenchError, match="not on this machine") as error:
        build_backbone("torchvision:resnet50/IMAGENET1K_V2")
    assert "resnet50-11ad3fa6.pth" in error.value.expected


# -- timm ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "vector", "dim"),
    [
        ("test_vit", "class token", 64), ("test_vit@mean", "mean", 64),
        ("test_vit3", "attention pool", 96), ("test_vit2", "pre-logits", 64),
        ("test_resnet", "mean", 96), ("test_convnext", "pre-logits", 64),
        ("test_mambaout", "pre-logits", 256), ("test_efficientnet", "mean", 256),
    ],
)  # fmt: skip
def test_timm(name, vector, dim):
    backbone = passes(f"timm:{name}")
    assert (backbone.name, backbone.vector, backbone.dim) == (f"timm:{name}", vector, dim)
    assert backbone.input_size == 160
    assert backbone.transform_id.startswith("squash160-")


def test_weights_of_timm_come_from_a_file_or_the_cache(tmp_path, monkeypatch):
    import timm
    from huggingface_hub import constants
    from safetensors.torch import save_file

    torch.manual_seed(3)
    net = timm.create_model("test_resnet")
    file = tmp_path / "w.safetensors"
    save_file(net.state_dict(), file)
    named = build_backbone("timm:test_resnet", str(file))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    with pytest.raises(BenchError, match="not on this machine") as error:
        build_backbone("timm:test_resnet")
    assert str(tmp_path / "hub") in error.value.expected
    assert "hf download timm/test_resnet.r160_in1k" in error.value.remedy
    snapshot = tmp_path / "hub" / "models--timm--test_resnet.r160_in1k" / "snapshots" / "1"
    snapshot.mkdir(parents=True)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("1")
    shutil.copy(file, snapshot / "model.safetensors")
    monkeypatch.setattr(
        "huggingface_hub.file_download.constants.HF_HUB_CACHE", str(tmp_path / "hub")
    )
    cached = build_backbone("timm:test_resnet")
    assert cached.weights_hash == named.weights_hash
    assert cached.found.endswith("model.safetensors")
    broken = {k: v for k, v in net.state_dict().items() if "layer1" not in k}
    save_file(broken, file)
    with pytest.raises(BenchError, match="can't make test_resnet"):
        build_backbone("timm:test_resnet", str(file))


def test_names_that_timm_does_not_have():
    with pytest.raises(BenchError, match="no network") as error:
        build_backbone("timm:test_vitt", "none")
    assert "timm:test_vit" in error.value.remedy
    with pytest.raises(BenchError, match="@class"):
        build_backbone("timm:test_resnet@class", "none")


# -- open_clip ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def architectures(tmp_path_factory):
    pytest.importorskip("open_clip")
    add_open_clip(tmp_path_factory.mktemp("open_clip"))


@pytest.mark.usefixtures("architectures")
@pytest.mark.parametrize(
    ("name", "channels", "grid"),
    [("tiny-vit", 64, (4, 4)), ("tiny-resnet", 256, (2, 2)), ("tiny-pool", 96, (10, 10))],
)
def test_open_clip(name, channels, grid):
    backbone = passes(f"open_clip:{name}")
    assert (backbone.channels, backbone.grid) == (channels, grid)
    assert backbone.vector == "projection"
    model = backbone.text.model
    x = torch.rand(2, 3, backbone.input_size, backbone.input_size)
    with torch.inference_mode():
        torch.testing.assert_close(backbone.features(x)[1], model.encode_image(x))
    vectors = backbone.text.encode(["a cat", "a photo of a dog", "a cat"])
    assert vectors.shape == (3, backbone.dim)
    np.testing.assert_allclose(vectors[0], vectors[2], rtol=1e-4, atol=1e-5)
    assert not any(key.startswith("text") for key in backbone.state_dict())


@pytest.mark.usefixtures("architectures")
def test_open_clip_other_vectors_and_names(tmp_path):
    token = build_backbone("open_clip:tiny-vit@class", "none")
    assert (token.vector, token.dim, token.text) == ("class token", 64, None)
    mean = build_backbone("open_clip:tiny-vit@mean", "none")
    assert (mean.name, mean.vector, mean.dim) == ("open_clip:tiny-vit@mean", "mean", 64)
    with pytest.raises(BenchError, match="says no weights"):
        build_backbone("open_clip:tiny-vit")
    with pytest.raises(BenchError, match="no architecture"):
        build_backbone("open_clip:ViT-B-33/openai")
    with pytest.raises(BenchError, match="not on this machine"):
        build_backbone("open_clip:ViT-B-32/openai")
    own = build_backbone("open_clip:tiny-vit", "none")
    torch.save(own.text.model.state_dict(), tmp_path / "w.pth")
    again = build_backbone("open_clip:tiny-vit", str(tmp_path / "w.pth"))
    assert again.weights_hash == own.weights_hash


# -- transformers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "vector", "channels", "dim", "grid"),
    [
        ("clip", "projection", 16, 12, (4, 4)), ("siglip", "projection", 16, 16, (4, 4)),
        ("dinov2", "class token", 16, 16, (4, 4)), ("vit", "class token", 16, 16, (4, 4)),
        ("convnext", "mean", 12, 12, (2, 2)), ("resnet", "mean", 12, 12, (2, 2)),
    ],
)  # fmt: skip
def test_transformers(kind, vector, channels, dim, grid, tmp_path):
    save_hf(kind, tmp_path / kind)
    backbone = passes(f"hf:{tmp_path / kind}", "default")
    assert (backbone.vector, backbone.channels, backbone.dim) == (vector, channels, dim)
    assert backbone.grid == grid
    assert backbone.name == f"hf:./{kind}"  # no folder of this machine
    assert backbone.input_size == (64 if kind in ("convnext", "resnet") else 32)
    mean = build_backbone(f"hf:{tmp_path / kind}@mean")
    assert (mean.vector, mean.text) == ("mean", None)


def test_the_embedding_of_clip_is_that_of_transformers(tmp_path):
    from transformers import CLIPModel

    save_hf("clip", tmp_path / "clip")
    backbone = build_backbone(f"hf:{tmp_path / 'clip'}")
    x = torch.rand(2, 3, 32, 32)
    model = CLIPModel.from_pretrained(tmp_path / "clip").eval()
    with torch.inference_mode():
        made = model.get_image_features(x)
        expected = made if isinstance(made, torch.Tensor) else made.pooler_output
        torch.testing.assert_close(backbone.features(x)[1], expected)
        last = model.vision_model(pixel_values=x).last_hidden_state
        tokens = model.vision_model.post_layernorm(last)
        torch.testing.assert_close(backbone(x)[:, :, 1, 2], tokens[:, 1 + 4 + 2])


def test_folders_and_ids_that_are_not_there(tmp_path):
    with pytest.raises(BenchError, match="no network in"):
        build_backbone(f"hf:{tmp_path}")
    with pytest.raises(BenchError, match="not on this machine") as error:
        build_backbone("hf:openai/clip-vit-base-patch99")
    assert "hf download openai/clip-vit-base-patch99" in error.value.remedy
    save_hf("vit", tmp_path / "vit")
    (tmp_path / "vit" / "model.safetensors").unlink()
    with pytest.raises(BenchError, match="can't make a network"):
        build_backbone(f"hf:{tmp_path / 'vit'}")


# -- no network, and names ----------------------------------------------------------------------


def test_no_connection_is_opened_while_a_backbone_is_built(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    file = tmp_path / "fetches.py"
    file.write_text(
        "import urllib.request, torch\n"
        "def build(weights):\n"
        "    return torch.hub.load_state_dict_from_url('http://127.0.0.1:9/x-01234567.pth',\n"
        f"        model_dir={str(tmp_path)!r})\n"
    )
    with pytest.raises(BenchError) as error:
        build_backbone(f"{file}:build")
    assert "no connection is opened" in error.value.found
    with offline(), pytest.raises(OSError, match="no connection"):
        socket.create_connection(("127.0.0.1", 9), timeout=0.1)
    with pytest.raises(ConnectionRefusedError):  # and afterwards they can be
        socket.create_connection(("127.0.0.1", 9), timeout=1)


def test_what_was_set_before_is_set_again_whichever_thread_ends_last(monkeypatch):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    first, second = offline(), offline()
    threads = ThreadPoolExecutor(1)
    first.__enter__()
    threads.submit(second.__enter__).result()
    first.__exit__(None, None, None)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    threads.submit(second.__exit__, None, None, None).result()
    assert "HF_HUB_OFFLINE" not in os.environ
    threads.shutdown()


def test_specs_and_what_a_file_may_name():
    assert parse_spec("a@b/c.py:build").name == "a@b/c.py:build"
    assert parse_spec("c.py:build@class").vector == "class"
    assert parse_spec("open_clip:ViT-B-32/openai@mean").name == "ViT-B-32/openai"
    for good in ("resnet50", "resnet50+vit_b_16@mean", "timm:resnet18.a1_in1k", "hf:a/b"):
        assert known_spec(good) == good
    for bad in ("x.py:build", "hf:./folder", "hf:/etc/x", "hf:a/b/c", "resnet51", "foo:bar"):
        with pytest.raises(BenchError):
            known_spec(bad)
    with pytest.raises(BenchError, match="unknown provider") as error:
        build_backbone("tim:resnet18")
    assert "timm:resnet18" in error.value.remedy
    with pytest.raises(BenchError, match="no choice of global vectors"):
        build_backbone("resnet50@class", "none")
