"""What adapts a base: the LoRA and the columns for the blurred photo, in training, in files and fused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.flow_transformer_factory import BOTH, build, points, train, velocity
from support.small_bases import NAMES
from torch import nn

from deblur_cli.networks.flow_transformer import LoraSettings

EMBEDDINGS = {"sd3": "pos_embed.proj", "flux2": "x_embedder"}


@pytest.mark.parametrize("name", NAMES)
def test_an_adapter_on_a_bfloat16_base_is_float32_and_learns(name: str) -> None:
    network, (x_t, t, blurry) = build(name).bfloat16(), points()
    base = velocity(network, x_t, t)
    network.widen()
    network.attach_lora(BOTH)
    assert torch.equal(velocity(network, x_t, t, blurry), base)
    assert {value.dtype for value in network.adapter_state().values()} == {torch.float32}
    assert {value.dtype for value in network.base_state().values()} == {torch.bfloat16}
    losses = train(network, 10)
    assert losses[-1] < 0.9 * losses[0]
    assert all(value.dtype == torch.float32 for value in network.adapter_state().values())


@pytest.mark.parametrize(("name", "base"), [*((name, torch.bfloat16) for name in NAMES), ("sd3-medium", torch.float32)])
def test_under_autocast_it_learns_as_without(name: str, base: torch.dtype) -> None:
    plain, mixed = build(name), build(name).to(base)
    for network in (plain, mixed):
        network.widen()
        network.attach_lora(BOTH)
    mixed.load_adapter(plain.adapter_state())
    assert train(mixed, 10, autocast=True) == pytest.approx(train(plain, 10), rel=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        assert velocity(mixed, *points()).dtype == torch.float32


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("widen_first", [True, False])
def test_a_fresh_adapter_changes_nothing_whatever_the_blurry_latents_are(name: str, widen_first: bool) -> None:
    network = build(name)
    x_t, t, blurry = points()
    base = velocity(network, x_t, t)
    state = {key: value.clone() for key, value in network.base_state().items()}
    for change in (network.widen, lambda: network.attach_lora(BOTH))[:: 1 if widen_first else -1]:
        change()
    assert network.is_widened
    assert torch.equal(velocity(network, x_t, t, blurry), base)
    assert torch.equal(velocity(network, x_t, t, 1e3 * blurry), base)
    assert network.base_state().keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in network.base_state().items())


@pytest.mark.parametrize("name", NAMES)
def test_training_moves_the_adapter_and_never_the_base_even_with_weight_decay(name: str) -> None:
    network = build(name, lora=BOTH)
    base = {key: value.clone() for key, value in network.base_state().items()}
    adapter = {key: value.clone() for key, value in network.adapter_state().items()}
    train(network, 5, decay=0.1)
    embedding = EMBEDDINGS[network.config.kind]
    assert f"{embedding}.weight" in base
    assert all(torch.equal(value, base[key]) for key, value in network.base_state().items())
    assert not torch.equal(
        network.adapter_state()[f"{embedding}.condition.weight"], adapter[f"{embedding}.condition.weight"]
    )
    # SD3's last block does not use its text again, so the matrices for the text's queries there get no gradient.
    idle = {key for key, value in network.adapter_state().items() if torch.equal(value, adapter[key])}
    assert all("transformer_blocks.1.attn.add_q_proj.lora_B" in key for key in idle)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("widen_first", [True, False])
def test_only_the_matrices_and_the_new_columns_can_be_trained(name: str, widen_first: bool) -> None:
    network = build(name)
    for change in (network.widen, lambda: network.attach_lora(BOTH))[:: 1 if widen_first else -1]:
        change()
    learned = [key for key, parameter in network.named_parameters() if parameter.requires_grad]
    assert len(learned) == len(network.adapter_state())
    assert all(".lora_A." in key or ".lora_B." in key or key.endswith(".condition.weight") for key in learned)


@pytest.mark.parametrize("name", NAMES)
def test_it_learns_is_saved_and_gives_the_same_picture_in_a_fresh_network(name: str, tmp_path: Path) -> None:
    network = build(name, lora=BOTH)
    losses = train(network, 30)
    assert losses[2] < losses[0]
    assert losses[-1] < 0.7 * losses[0]
    save_file(network.base_state(), tmp_path / "base.safetensors")
    save_file(network.adapter_state(), tmp_path / "adapter.safetensors")
    fresh = build(name, seed=1, lora=BOTH)
    before = velocity(fresh, *points())
    fresh.load_base(load_file(tmp_path / "base.safetensors"))
    fresh.load_adapter(load_file(tmp_path / "adapter.safetensors"))
    after = velocity(fresh, *points())
    assert torch.equal(after, velocity(network, *points()))
    assert not torch.equal(after, before)


@pytest.mark.parametrize("name", NAMES)
def test_a_fused_network_gives_the_same_picture_from_plain_layers(name: str) -> None:
    network = build(name, lora=BOTH)
    train(network, 10)
    expected = velocity(network, *points())
    layer, state = "transformer_blocks.0.attn.to_q", network.adapter_state()
    matrices = state[f"{layer}.lora_B.weight"] @ state[f"{layer}.lora_A.weight"]
    merged = network.base_state()[f"{layer}.weight"] + matrices
    network.fuse()
    torch.testing.assert_close(network.transformer.get_submodule(layer).weight, merged, rtol=0, atol=1e-6)
    torch.testing.assert_close(velocity(network, *points()), expected, rtol=0, atol=1e-6)
    assert not [module for module in network.modules() if "lora" in type(module).__module__]
    for forbidden in (network.fuse, network.adapter_state, network.base_state, lambda: network.attach_lora(BOTH)):
        with pytest.raises(ValueError, match="LoRA"):
            forbidden()


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_the_plain_diffusers_model_load_before_and_after_the_adapter(name: str) -> None:
    source = build(name)
    x_t, t, blurry = points()
    published = {key: value.clone() for key, value in source.transformer.state_dict().items()}
    plain, adapted = build(name, seed=1), build(name, seed=1, lora=BOTH)
    for network in (plain, adapted):
        network.load_base(published)
    assert torch.equal(velocity(plain, x_t, t), velocity(source, x_t, t))
    assert torch.equal(velocity(adapted, x_t, t, blurry), velocity(source, x_t, t))


def test_an_adapter_for_other_layers_or_without_columns_is_refused() -> None:
    attention, both = (build("sd3-medium", lora=settings) for settings in (LoraSettings(4), BOTH))
    narrow = build("sd3-medium")
    narrow.attach_lora(LoraSettings(4))
    for network, state in ((attention, both), (both, attention), (narrow, attention), (attention, narrow)):
        with pytest.raises(ValueError, match="do not fit the network"):
            network.load_adapter(state.adapter_state())


def test_the_adapted_layers_carry_the_names_of_diffusers_own_lora_files() -> None:
    keys = build("flux2-klein-4b", lora=LoraSettings(4)).adapter_state().keys()
    assert {key.removesuffix(".lora_A.weight") for key in keys if key.endswith(".lora_A.weight")} == {
        *(f"transformer_blocks.0.attn.{layer}" for layer in ("to_q", "to_k", "to_v", "to_out.0", "to_add_out")),
        *(f"transformer_blocks.0.attn.add_{layer}_proj" for layer in "qkv"),
        *(f"single_transformer_blocks.{i}.attn.{layer}" for i in (0, 1) for layer in ("to_qkv_mlp_proj", "to_out")),
    }


def test_a_target_that_matches_no_layer_is_refused() -> None:
    network = build("sd3-medium")
    network.transformer.transformer_blocks = nn.ModuleList()
    with pytest.raises(ValueError, match=r"no layer .* 'mlp'"):
        network.attach_lora(LoraSettings(4, ("mlp",)))
