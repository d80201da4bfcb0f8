"""timm's networks by name and CLIP's image tower: transforms, embeddings and files against timm's own."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.data import create_transform, resolve_data_config

from pipeline.encoders import create
from pipeline.encoders.clip import ClipConfig
from pipeline.encoders.timm_models import TimmConfig, _stated, _transform
from pipeline.errors import PipelineError

CLIP = "vit_xsmall_patch16_clip_224"


def pictures(*size: int) -> torch.Tensor:
    return torch.randint(0, 256, (*size, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def smooth(height: int, width: int) -> torch.Tensor:
    """(H, W, 3) uint8 without noise, in which a shift of a pixel would show."""
    y, x = torch.arange(height)[:, None] / height, torch.arange(width)[None] / width
    waves = torch.stack([torch.sin(9 * x + 4 * y), torch.cos(12 * x * y), (x + y) - 1], dim=-1)
    return (waves * 100 + 128).to(torch.uint8)


@pytest.mark.parametrize(
    "model",
    [
        "resnet18.a1_in1k",  # 224 / 0.95 is 235.8
        "vit_base_patch14_dinov2.lvd142m",  # 518 pixels
        "vit_large_patch14_clip_quickgelu_224.openai",  # CLIP's mean and deviation
        "convnext_tiny.in12k_ft_in1k_384",  # squeezed, not cropped
        "test_resnet",  # bilinear
    ],
)
def test_the_transform_is_timms_own(model):
    image = pytest.importorskip("PIL.Image")
    stated = _stated(model)
    published = create_transform(**resolve_data_config(pretrained_cfg=stated.to_dict()))
    frame = smooth(240, 400)
    theirs = published(image.fromarray(frame.numpy()))
    transform = _transform(TimmConfig(model=model), stated)
    ours = transform(frame[None])[0]
    assert ours.shape == theirs.shape
    assert float(((ours - theirs) * torch.tensor(stated.std)[:, None, None] * 255).abs().max()) < 2.01  # grey levels
    assert torch.equal(transform.on_device(frame[None])[0].contiguous(), ours)  # the GPU's way of preparation


def test_valors_transform_squeezes_without_antialiasing():
    """Two of eight columns of pixels are looked at for a column of the square: the others may hold anything."""
    encoder = create("clip", model=CLIP, weights="none", image_size=32, preprocessing="valor")
    frames = torch.zeros(1, 32, 256, 3, dtype=torch.uint8)
    frames[:, :, 3::8] = frames[:, :, 4::8] = 255
    out = encoder.prepare(frames)
    mean, std = (torch.tensor(getattr(_stated(CLIP), name))[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(out[0], ((1 - mean) / std).expand(3, 32, 32))
    assert not encoder.prepares_on_device
    assert encoder.spec() != create("clip", model=CLIP, weights="none", image_size=32).spec()


@pytest.mark.parametrize(("pool", "shape"), [("map", (2, 2, 256)), ("average", (256,)), ("pooled", (256,)), ("projected", (512,))])
def test_pools_of_a_clip_tower(pool, shape):
    encoder = create("clip", model=CLIP, weights="none", image_size=32, pool=pool)
    assert encoder.output_shape == shape
    reference = timm.create_model(CLIP, pretrained=False, num_classes=512, img_size=32).eval()
    reference.load_state_dict(encoder.network.state_dict(), strict=False)  # without the head unless projected
    batch = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        tokens = reference.forward_features(batch)
        expected = {"pooled": tokens[:, 0], "projected": reference.head(tokens[:, 0])}
        out = encoder.encode(batch)
    if pool in expected:
        torch.testing.assert_close(out, expected[pool])


def test_the_maps_of_a_transformer_with_its_last_norm():
    encoder = create("timm", model="test_vit3", weights="none", image_size=64, final_norm=True)
    batch = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        tokens = encoder.network.forward_features(batch)[:, encoder.network.num_prefix_tokens :]
        torch.testing.assert_close(encoder.encode(batch).flatten(1, 2), tokens)


def test_openais_large_tower_has_its_size_and_its_activation():
    config = ClipConfig()
    with torch.device("meta"):
        network = timm.create_model(config.model, pretrained=False, num_classes=_stated(config.model).num_classes)
    assert sum(parameter.numel() for parameter in network.parameters()) == 303_966_976
    assert "QuickGELU" in repr(network.blocks[0].mlp.act) or "quick_gelu" in repr(network.blocks[0].mlp.act)
    with pytest.raises(PipelineError, match=r"vit_large_patch14_clip_quickgelu_224\.openai"):
        create("clip", model="vit_large_patch14_clip_224.openai", weights="none")


def test_a_file_for_another_number_of_positions_is_resampled(tmp_path):
    """DINOv2's files are for 518 pixels; frames may be smaller."""
    whole = timm.create_model("test_vit", pretrained=False)
    with torch.no_grad():
        whole.pos_embed.fill_(0.25)
    save_file(whole.state_dict(), tmp_path / "file.safetensors")
    encoder = create("timm", model="test_vit", weights=str(tmp_path / "file.safetensors"), image_size=64, pool="pooled")
    assert torch.equal(encoder.network.blocks[0].attn.qkv.weight, whole.blocks[0].attn.qkv.weight)
    torch.testing.assert_close(encoder.network.pos_embed, torch.full((1, 17, 64), 0.25))


def test_a_file_of_openais_layout_is_converted(tmp_path):
    """Both towers in one file, with the image tower's layers under OpenAI's names."""
    reference = timm.create_model(CLIP, pretrained=False, num_classes=512)
    theirs = {"visual.class_embedding": reference.cls_token.flatten(), "visual.positional_embedding": reference.pos_embed[0]}
    theirs |= {"visual.conv1.weight": reference.patch_embed.proj.weight, "visual.proj": reference.head.weight.T}
    names = {"norm_pre": "ln_pre", "norm": "ln_post", "attn.qkv.": "attn.in_proj_", "attn.proj": "attn.out_proj", "mlp.fc1": "mlp.c_fc"}
    names |= {"norm1": "ln_1", "norm2": "ln_2", "mlp.fc2": "mlp.c_proj", "blocks": "transformer.resblocks"}
    for name, value in reference.state_dict().items():
        if name.startswith(("blocks", "norm")):
            for ours, name_there in names.items():
                name = name.replace(ours, name_there) if ours != "norm" or name.startswith("norm.") else name
            theirs[f"visual.{name}"] = value
    theirs |= {"token_embedding.weight": torch.zeros(4, 4), "logit_scale": torch.zeros(())}
    save_file({name: value.detach().clone().contiguous() for name, value in theirs.items()}, tmp_path / "openai.safetensors")
    encoder = create("clip", model=CLIP, weights=str(tmp_path / "openai.safetensors"))
    for name, value in reference.state_dict().items():
        assert torch.equal(encoder.network.state_dict()[name], value if name != "head.bias" else torch.zeros(512)), name


def test_what_a_timm_model_lacks_is_one_sentence(monkeypatch):
    with pytest.raises(PipelineError, match=r"no head that projects.*pool: pooled"):
        create("timm", model="vit_base_patch16_siglip_224", weights="none", pool="projected")
    for model in ("deepseek_vit_412m", "vit_base_patch16_clip_384.openai_ft_in12k_in1k"):
        with pytest.raises(PipelineError, match=f"{model}.*crop mode.*state crop: true or false"):
            _transform(TimmConfig(model=model), _stated(model))
    monkeypatch.delattr("timm.models.vision_transformer.VisionTransformer.forward_intermediates")
    options = {"model": "test_vit", "weights": "none", "image_size": 32}
    with pytest.raises(PipelineError, match=r"'test_vit' gives no feature maps.*pool: pooled"):
        create("timm", **options)
    assert create("timm", **options, pool="pooled").output_shape == (64,)
