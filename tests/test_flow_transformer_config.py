"""Configs of flow transformers and of their adapters: what is none is refused."""

import json

import pytest
from support.small_bases import KNOWN_BASES, NAMES, SMALL, SMALL_SD3, small

from deblur_cli.networks.flow_transformer import FlowTransformerConfig, LoraSettings
from deblur_cli.system.typed_tables import read_table


@pytest.mark.parametrize("config", [*KNOWN_BASES.values(), *map(small, NAMES)])
def test_a_config_survives_json(config: FlowTransformerConfig) -> None:
    assert read_table(FlowTransformerConfig, json.loads(json.dumps(config.to_json()))) == config


def test_the_config_knows_the_latents_that_the_codec_must_make() -> None:
    assert {name: config.channels for name, config in KNOWN_BASES.items()} == {
        "sd3-medium": 16, "sd3.5-medium": 16, "flux2-klein-4b": 32,
    }  # fmt: skip
    assert {config.multiple_of for config in KNOWN_BASES.values()} == {2}
    assert read_table(LoraSettings, {"rank": 8, "targets": ["mlp"]}) == LoraSettings(8, ("mlp",))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "sdxl"},
        {"kind": ["sd3"]},
        {"depth": 3},
        {"window": 0},
        {"window": 7},
        {"window": 14},  # more than the position table holds
        {"window": 8.0},
        {"transformer": 3},
        {"transformer": {**SMALL_SD3, "layers": 2}},
        {"transformer": {**SMALL_SD3, "num_layers": 0}},
        {"transformer": {**SMALL_SD3, "num_layers": "2"}},
        {"transformer": {**SMALL_SD3, "num_layers": True}},
        {"transformer": {**SMALL_SD3, "patch_size": 1}},
        {"transformer": {**SMALL_SD3, "out_channels": 8}},
        {"transformer": {**SMALL_SD3, "qk_norm": 3}},
        {"transformer": {**SMALL_SD3, "dual_attention_layers": ["first"]}},
        {"transformer": {**SMALL_SD3, "caption_projection_dim": 24}},
        {"kind": "flux2", "transformer": {**SMALL["flux2-klein-4b"]}},  # wants to be told its guidance
        {"kind": "flux2", "transformer": {**SMALL["flux2-klein-4b"], "guidance_embeds": 0}},
        {"kind": "flux2", "transformer": {**small("flux2-klein-4b").transformer, "in_channels": 18}},
        {"kind": "flux2", "transformer": {**small("flux2-klein-4b").transformer, "axes_dims_rope": [8, 8]}},
    ],
)
def test_a_config_that_is_none_is_refused(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_table(FlowTransformerConfig, {"kind": "sd3", "transformer": SMALL_SD3, "window": 8, **change})


@pytest.mark.parametrize(
    "values",
    [
        {"rank": 0},
        {"rank": 2.5},
        {"rank": 4, "targets": []},
        {"rank": 4, "targets": "mlp"},
        {"rank": 4, "targets": ["mlp", "norms"]},
        {"rank": 4, "targets": ["mlp", "mlp"]},
        {"rank": 4, "alpha": 8},
    ],
)
def test_lora_settings_that_are_none_are_refused(values: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        read_table(LoraSettings, values)
