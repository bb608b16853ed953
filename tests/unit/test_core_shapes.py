"""What a token of KV cache costs in models whose layers differ."""

from __future__ import annotations

import pytest

from ashore.core.errors import UnsupportedModel
from ashore.core.shapes import ModelShape, kv_bytes, kv_bytes_per_token
from ashore.kit.store.conversion.configshape import dimensions_of_config


def shape(**given: int) -> ModelShape:
    usual = {
        "num_layers": 36,
        "hidden_size": 2880,
        "num_heads": 64,
        "num_kv_heads": 8,
        "head_dim": 64,
        "vocab_size": 201088,
        "context_tokens": 131072,
        "num_parameters": 0,
    }
    return ModelShape(architecture="", **(usual | given))


def test_plain_layers_keep_keys_and_values_of_every_token() -> None:
    assert kv_bytes_per_token(shape(), itemsize=2) == 2 * 36 * 8 * 64 * 2
    assert kv_bytes_per_token(shape(), itemsize=2, tensor_parallel=16) == 2 * 36 * 64 * 2, "one head is on each device"
    assert kv_bytes(shape(), tokens=100, itemsize=2) == 100 * kv_bytes_per_token(shape(), itemsize=2)
    with pytest.raises(UnsupportedModel, match="num_kv_heads=0"):
        kv_bytes_per_token(shape(num_kv_heads=0), itemsize=2)


def test_sliding_windows_keep_the_window_alone() -> None:
    gpt_oss = shape(window_tokens=128, window_layers=18)
    whole = kv_bytes_per_token(shape(), itemsize=2)
    assert kv_bytes_per_token(gpt_oss, itemsize=2, tokens=131072) == pytest.approx(whole / 2, rel=0.002)
    assert kv_bytes_per_token(gpt_oss, itemsize=2, tokens=100) == whole, "shorter than the window: nothing is saved"
    assert kv_bytes_per_token(gpt_oss, itemsize=2) == whole, "an engine that keeps whole blocks in every layer"


def test_linear_layers_keep_a_state_for_each_sequence() -> None:
    hybrid = shape(num_layers=60, num_kv_heads=2, head_dim=256, linear_layers=45, linear_state=1 << 20)
    assert kv_bytes_per_token(hybrid, itemsize=2) == 2 * 15 * 2 * 256 * 2
    assert kv_bytes(hybrid, tokens=1, itemsize=2) == 2 * 15 * 2 * 256 * 2 + 45 * (1 << 20) * 4


def test_latent_attention_keeps_one_row_on_every_device_and_a_key_to_choose_by() -> None:
    v3 = shape(num_layers=61, latent_rank=576)
    assert kv_bytes_per_token(v3, itemsize=2, tensor_parallel=8) == 61 * 576 * 2
    assert kv_bytes_per_token(shape(num_layers=61, latent_rank=576, index_dim=128), itemsize=1) == 61 * (576 + 128)


def test_compressed_layers_give_what_the_card_of_deepseek_v4_pro_says() -> None:
    ratios = [128, *[4, 128] * 30, 0]  # the last one is of the layer that drafts
    config = {
        "model_type": "deepseek_v4",
        "num_hidden_layers": 61,
        "hidden_size": 7168,
        "num_attention_heads": 128,
        "num_key_value_heads": 1,
        "head_dim": 512,
        "vocab_size": 129280,
        "max_position_embeddings": 1 << 20,
        "index_head_dim": 128,
        "sliding_window": 128,
        "compress_ratios": ratios,
    }
    told = dimensions_of_config(config)
    assert (told["light_layers"], told["heavy_layers"], told["window_layers"]) == (30, 31, 0)
    v4 = ModelShape(architecture="deepseek4", num_parameters=0, **told)
    assert kv_bytes(v4, tokens=1 << 20, itemsize=2) / 2**30 == pytest.approx(9.62, abs=0.01)
    assert kv_bytes_per_token(v4, itemsize=2) < 10_000 < 61 * 576 * 2 / 7


def test_layer_types_of_a_config_tell_windows_and_linear_layers() -> None:
    common = {
        "num_hidden_layers": 4,
        "hidden_size": 64,
        "num_attention_heads": 4,
        "vocab_size": 100,
        "max_position_embeddings": 4096,
    }
    windows = dimensions_of_config(common | {"sliding_window": 128, "layer_types": ["sliding_attention", "full"] * 2})
    assert (windows["window_layers"], windows["window_tokens"]) == (2, 128)
    gemma = dimensions_of_config(
        common | {"num_hidden_layers": 62, "sliding_window": 1024, "sliding_window_pattern": 6}
    )
    assert gemma["window_layers"] == 52
    linear = dimensions_of_config(
        common
        | {
            "layer_types": ["linear_attention"] * 3 + ["full_attention"],
            "linear_num_key_heads": 2,
            "linear_key_head_dim": 8,
            "linear_num_value_heads": 4,
            "linear_value_head_dim": 8,
            "linear_conv_kernel_dim": 4,
        }
    )
    assert linear["linear_layers"] == 3 and linear["linear_state"] == 32 * 8 + (2 * 16 + 32) * 4
    qwen2 = dimensions_of_config(common | {"sliding_window": 4096, "use_sliding_window": False})
    assert "window_layers" not in qwen2
