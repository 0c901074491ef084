"""Tiny random networks of each family, made here: nothing is downloaded."""

import json
from pathlib import Path

SQUARE = {"height": 32, "width": 32}
TEXT = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "vocab_size": 64, "max_position_embeddings": 8, "bos_token_id": 0, "eos_token_id": 1,
    "pad_token_id": 1,
}  # fmt: skip
VISION = {
    "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "image_size": 32, "patch_size": 8,
}  # fmt: skip
OPEN_CLIP_TEXT = {
    "context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
}  # fmt: skip
OPEN_CLIP = {
    "tiny-vit": {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8},
    "tiny-resnet": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None},
    "tiny-pool": {
        "image_size": 160, "timm_model_name": "test_vit3", "timm_model_pretrained": False,
        "timm_pool": "map", "timm_proj": "none",
    },
}  # fmt: skip


def add_open_clip(folder: Path) -> None:
    """Make these architectures known to open_clip."""
    import open_clip

    for name, vision in OPEN_CLIP.items():
        size = 96 if name == "tiny-pool" else 12
        made = {"embed_dim": size, "vision_cfg": vision, "text_cfg": OPEN_CLIP_TEXT}
        made["custom_text"] = name == "tiny-pool"
        (folder / f"{name}.json").write_text(json.dumps(made))
    open_clip.add_model_config(folder)


def save_hf(kind: str, folder: Path) -> None:
    """A network of transformers in a folder, with its image processor, saved."""
    import transformers as t

    t.utils.logging.set_verbosity_error()
    t.utils.logging.disable_progress_bar()
    cropped = {"size": {"shortest_edge": 40}, "crop_size": SQUARE}
    stages = {"hidden_sizes": [8, 8, 8, 12], "depths": [1, 1, 1, 1]}
    made = {
        "clip": lambda: (
            t.CLIPModel(t.CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12)),
            t.CLIPImageProcessor(**cropped),
        ),
        "siglip": lambda: (
            t.SiglipModel(
                t.SiglipConfig(text_config={**TEXT, "projection_size": 16}, vision_config=VISION)
            ),
            t.SiglipImageProcessor(size=SQUARE),
        ),
        "dinov2": lambda: (
            t.Dinov2WithRegistersModel(t.Dinov2WithRegistersConfig(**VISION)),
            t.BitImageProcessor(**cropped, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        ),
        "vit": lambda: (
            t.ViTForImageClassification(t.ViTConfig(**VISION)),
            t.ViTImageProcessor(size=SQUARE),
        ),
        "convnext": lambda: (
            t.ConvNextModel(t.ConvNextConfig(**stages)),
            t.ConvNextImageProcessor(size={"shortest_edge": 64}),
        ),
        "resnet": lambda: (
            t.ResNetModel(t.ResNetConfig(embedding_size=8, layer_type="basic", **stages)),
            t.ConvNextImageProcessor(size={"shortest_edge": 64}),
        ),
    }
    model, processor = made[kind]()
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
