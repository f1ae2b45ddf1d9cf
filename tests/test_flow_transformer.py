"""The flow transformer: diffusers' conventions turned round, in every number format, and strict files."""

from collections.abc import Callable

import pytest
import torch
from support.flow_transformer_factory import BOTH, build, normal, points, velocity
from support.small_bases import KNOWN_BASES, NAMES, small
from torch import Tensor, nn

from deblur_cli.networks.flow_transformer import FlowTransformer, LoraSettings

KINDS = ["sd3.5-medium", "flux2-klein-4b"]


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
    with pytest.raises(ValueError, match="take_memory"):
        network.load_base(source.base_state())
    network.take_memory("cpu")
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
    network.use_exact_gelu()
    assert torch.allclose(velocity(network, x_t, t, blurry), before, atol=2e-3)


def test_gelu_and_its_approximation_differ_by_less_than_bfloat16_rounds_away() -> None:
    values = torch.linspace(-8, 8, 100_001)
    exact, approximate = nn.functional.gelu(values), nn.functional.gelu(values, approximate="tanh")
    assert float((exact - approximate).abs().max()) < 5e-4
