"""The flow transformer: diffusers' conventions turned round, an adapter that starts as nothing, and strict files."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_bases import NAMES, small
from torch import Tensor, nn

from deblur_cli.networks.flow_transformer import KNOWN_BASES, FlowTransformer, LoraSettings

KINDS = ["sd3.5-medium", "flux2-klein-4b"]
EMBEDDINGS = {"sd3": "pos_embed.proj", "flux2": "x_embedder"}
BOTH = LoraSettings(4, ("attention", "mlp"))


def build(name: str, seed: int = 0, lora: LoraSettings | None = None) -> FlowTransformer:
    """A small random network with a random prompt; widened and adapted if there is a LoRA."""
    torch.manual_seed(seed)
    network = FlowTransformer(small(name))
    joint, pooled = network.prompt.shape[-1], network.pooled
    network.set_prompt(normal(1, 3, joint, seed=7), None if pooled is None else normal(*pooled.shape, seed=8))
    if lora is not None:
        network.widen()
        network.attach_lora(lora)
    return network


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def points(batch: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    """x_t, t and blurry for a small network, not square."""
    return normal(batch, 4, 8, 6), torch.linspace(0, 1, batch), normal(batch, 4, 8, 6, seed=1)


def train(network: FlowTransformer, steps: int, decay: float = 0.0, autocast: bool = False) -> list[float]:
    """Losses of AdamW on one fixed batch, whose target depends on x_t and on blurry."""
    x_t, t, blurry = points(4)
    target = 0.5 * blurry.flip(-1) - x_t
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learned, 1e-2, weight_decay=decay)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            loss = (network(x_t, t, blurry) - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def velocity(network: nn.Module, *given: Tensor) -> Tensor:
    with torch.inference_mode():
        return network(*given)


def replace_field(network: FlowTransformer, field: Callable[..., Tensor]) -> list[dict[str, Tensor]]:
    """Let `field(hidden_states, timestep)` answer in place of the blocks; the list fills with what it was given."""
    calls: list[dict[str, Tensor]] = []

    def forward(**given: Tensor) -> tuple[Tensor]:
        calls.append(given)
        return (field(given["hidden_states"], given["timestep"]),)

    network.transformer.forward = forward
    return calls


@pytest.mark.parametrize(("name", "scale"), [("sd3.5-medium", 1000), ("flux2-klein-4b", 1)])
def test_time_runs_from_the_noise_slot_to_the_data_in_the_models_own_unit(name: str, scale: float) -> None:
    network = build(name)
    calls = replace_field(network, lambda hidden_states, timestep: torch.zeros_like(hidden_states))
    velocity(network, normal(3, 4, 8, 8), torch.tensor([0.0, 0.3, 1.0]))
    torch.testing.assert_close(calls[0]["timestep"], scale * torch.tensor([1.0, 0.7, 0.0]))


@pytest.mark.parametrize(("name", "scale"), [("sd3.5-medium", 1000), ("flux2-klein-4b", 1)])
def test_a_perfect_diffusers_field_becomes_the_perfect_field_towards_the_data(name: str, scale: float) -> None:
    """x_t = sigma noise + (1 - sigma) p with one picture p of equal latents: diffusers' models predict noise - p, which
    is (x_t - p) / sigma. Ours is the velocity from source to target, p - x_0 = (p - x_t) / (1 - t)."""
    network, picture = build(name), 0.3

    def towards_noise(hidden_states: Tensor, timestep: Tensor) -> Tensor:
        sigma = timestep / scale
        return (hidden_states - picture) / sigma.view(-1, *[1] * (hidden_states.ndim - 1))

    replace_field(network, towards_noise)
    x_0, t = normal(3, 4, 8, 6), torch.tensor([0.0, 0.3, 0.8])
    place = t.view(-1, 1, 1, 1)
    x_t = (1 - place) * x_0 + place * picture
    torch.testing.assert_close(velocity(network, x_t, t), picture - x_0)


@pytest.mark.parametrize("name", NAMES)
def test_the_velocity_is_the_negated_output_of_the_model_called_as_its_pipeline_does(name: str) -> None:
    network = build(name)
    x_t, t, _ = points()
    model, prompt = network.transformer, network.prompt.expand(2, -1, -1)
    with torch.inference_mode():
        if network.config.kind == "sd3":
            expected = -model(x_t, prompt, network.pooled.expand(2, -1), 1000 * (1 - t)).sample
        else:
            pipeline = import_pipeline()
            grid = pipeline._patchify_latents(x_t)
            ids = pipeline._prepare_latent_ids(grid)
            texts = pipeline._prepare_text_ids(prompt)
            tokens = model(pipeline._pack_latents(grid), prompt, 1 - t, ids, texts).sample
            expected = -pipeline._unpatchify_latents(pipeline._unpack_latents_with_ids(tokens, ids))
    assert torch.equal(velocity(network, x_t, t), expected)
    assert expected.std() > 0.01


def import_pipeline() -> type:
    pytest.importorskip("transformers")
    from diffusers import Flux2KleinPipeline

    return Flux2KleinPipeline


def test_flux2_packs_latents_into_the_channels_and_order_of_its_pipeline() -> None:
    pipeline, network, x_t = import_pipeline(), build("flux2-klein-4b"), points()[0]
    calls = replace_field(network, lambda hidden_states, timestep: hidden_states)
    restored = velocity(network, x_t, torch.zeros(2))
    assert torch.equal(calls[0]["hidden_states"], pipeline._pack_latents(pipeline._patchify_latents(x_t)))
    assert torch.equal(calls[0]["img_ids"], pipeline._prepare_latent_ids(torch.zeros(1, 16, 4, 3))[0])
    assert torch.equal(calls[0]["txt_ids"], pipeline._prepare_text_ids(network.prompt)[0])
    assert torch.equal(restored, -x_t)  # unpacking is the way back


@pytest.mark.parametrize("name", KINDS)
def test_time_keeps_its_precision_and_latents_their_format_where_the_weights_are_bfloat16(name: str) -> None:
    network = build(name, lora=BOTH).bfloat16()
    seen: list[Tensor] = []
    time = network.transformer.time_text_embed if name != "flux2-klein-4b" else network.transformer.time_guidance_embed
    time.time_proj.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x_t, _, blurry = points()
    t = torch.tensor([0.25691, 0.00123])
    assert velocity(network, x_t, t, blurry).dtype == torch.float32
    assert velocity(network, x_t.bfloat16(), t, blurry.bfloat16()).dtype == torch.bfloat16
    for times in seen:
        torch.testing.assert_close(times, 1000 * (1 - t), rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_weights_agree_with_float32_ones(name: str) -> None:
    network, given = build(name, lora=BOTH), points()
    exact = velocity(network, *given)
    assert (velocity(network.bfloat16(), *given) - exact).abs().mean() < 0.02 * exact.abs().mean()


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


@pytest.mark.parametrize("name", KINDS)
def test_a_file_that_does_not_fit_is_refused_in_one_line_and_changes_nothing(name: str) -> None:
    network = build(name, lora=BOTH)
    for load, state in ((network.load_adapter, network.adapter_state()), (network.load_base, network.base_state())):
        before = {key: value.clone() for key, value in state.items()}
        whole = {key: value + 1 for key, value in state.items()}
        key = next(iter(whole))
        missing = {k: v for k, v in whole.items() if k != key}
        for faulty, fault in (
            (missing, "1 missing"),
            ({**whole, "stray.weight": torch.zeros(1)}, r"1 unexpected \(stray.weight\)"),
            ({**whole, key: whole[key][..., :1]}, "1 of another shape"),
            ({}, "missing"),
        ):
            with pytest.raises(ValueError, match=fault) as caught:
                load(faulty)
            assert "\n" not in str(caught.value)
        assert all(torch.equal(value, before[k]) for k, value in state.items())


def test_an_adapter_for_other_layers_or_without_columns_is_refused() -> None:
    attention, both = (build("sd3-medium", lora=settings) for settings in (LoraSettings(4), BOTH))
    narrow = build("sd3-medium")
    narrow.attach_lora(LoraSettings(4))
    for network, state in ((attention, both), (both, attention), (narrow, attention), (attention, narrow)):
        with pytest.raises(ValueError, match="do not fit the network"):
            network.load_adapter(state.adapter_state())


@pytest.mark.parametrize("name", KINDS)
def test_gradient_checkpointing_gives_the_same_gradients(name: str) -> None:
    network, given = build(name, lora=BOTH), points()
    learned = [parameter for parameter in network.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(network(*given).square().sum(), learned)
    network.enable_gradient_checkpointing()
    network.train()
    for gradient, truth in zip(torch.autograd.grad(network(*given).square().sum(), learned), expected, strict=True):
        torch.testing.assert_close(gradient, truth)


@pytest.mark.parametrize("name", KINDS)
def test_a_network_without_memory_gets_it_empty_and_its_weights_from_the_file(name: str) -> None:
    source = build(name)
    with torch.device("meta"):
        network = FlowTransformer(small(name))
    with pytest.raises(ValueError, match="to_empty"):
        network.load_base(source.base_state())
    network.to_empty(device="cpu")
    assert not network.prompt.any()
    network.load_base(source.base_state())
    network.set_prompt(source.prompt, source.pooled)
    assert torch.equal(velocity(network, *points()[:2]), velocity(source, *points()[:2]))


@pytest.mark.parametrize(
    ("name", "parameters", "table", "attention", "mlp", "both"),
    [
        ("sd3-medium", 2_028_328_000, 192 * 192 * 1536, 24 * 8 - 1, 24 * 4 - 2, 191 + 94),
        ("sd3.5-medium", 2_243_171_520, 384 * 384 * 1536, 24 * 8 - 1 + 13 * 4, 24 * 4 - 2, 243 + 94),
        ("flux2-klein-4b", 3_875_544_576, 0, 5 * 8 + 20 * 2, 5 * 4 + 20 * 2, 5 * 12 + 20 * 2),
    ],
)
def test_the_pretrained_models_have_their_published_size_and_every_layer_is_found(
    name: str, parameters: int, table: int, attention: int, mlp: int, both: int
) -> None:
    for targets, layers in ((("attention",), attention), (("mlp",), mlp), (("attention", "mlp"), both)):
        with torch.device("meta"):
            network = FlowTransformer(KNOWN_BASES[name])
            assert sum(parameter.numel() for parameter in network.parameters()) == parameters
            assert sum(tensor.numel() for tensor in network.base_state().values()) == parameters + table
            network.widen()
            network.attach_lora(LoraSettings(16, targets))
        assert len(network.adapter_state()) == 2 * layers + 1
        assert sum(tensor.numel() for tensor in network.base_state().values()) == parameters + table


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


@pytest.mark.parametrize("name", KINDS)
def test_latents_that_do_not_fit_are_refused(name: str) -> None:
    plain, widened = build(name), build(name, lora=LoraSettings(4))
    x_t, t, blurry = points()
    for network, given in (
        (plain, (x_t, t, blurry)),
        (widened, (x_t, t)),
        (widened, (x_t, t, blurry[:1])),
        (plain, (x_t[:, :3], t)),
        (plain, (x_t[..., :5], t)),
        (plain, (x_t, t[:1])),
        (plain, (x_t[0], t)),
    ):
        with pytest.raises(ValueError, match=r"latents"):
            network(*given)
    with pytest.raises(ValueError, match="already"):
        widened.widen()
    with pytest.raises(ValueError, match="already"):
        widened.attach_lora(BOTH)


def test_a_prompt_that_does_not_fit_is_refused() -> None:
    for name, prompt, pooled in (
        ("sd3-medium", torch.zeros(1, 3, 24), None),
        ("sd3-medium", torch.zeros(1, 3, 24), torch.zeros(1, 13)),
        ("sd3-medium", torch.zeros(2, 3, 24), torch.zeros(1, 12)),
        ("flux2-klein-4b", torch.zeros(1, 3, 24), torch.zeros(1, 12)),
        ("flux2-klein-4b", torch.zeros(1, 3, 25), None),
        ("flux2-klein-4b", torch.zeros(3, 24), None),
    ):
        with pytest.raises(ValueError, match="prompt must be"):
            build(name).set_prompt(prompt, pooled)


@pytest.mark.parametrize("name", NAMES)
def test_a_quickened_network_gives_the_same_picture_as_far_as_bfloat16_tells(name: str) -> None:
    network = build(name)
    network.widen()
    x_t, t, blurry = points()
    before = velocity(network, x_t, t, blurry)
    network.quicken()
    assert torch.allclose(velocity(network, x_t, t, blurry), before, atol=2e-3)


def test_gelu_and_its_approximation_differ_by_less_than_bfloat16_rounds_away() -> None:
    values = torch.linspace(-8, 8, 100_001)
    exact, approximate = nn.functional.gelu(values), nn.functional.gelu(values, approximate="tanh")
    assert float((exact - approximate).abs().max()) < 5e-4
