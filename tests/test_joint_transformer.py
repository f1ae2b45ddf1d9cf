"""Our own transformer is that of diffusers, to the bit, and brings neither diffusers nor peft with it."""

import inspect

import pytest
import torch
from diffusers import SD3Transformer2DModel
from support.deblur_process import run_python
from support.flow_transformer_factory import BOTH, points
from support.small_bases import small

from deblur_cli.networks.flow_transformer import FlowTransformer
from deblur_cli.networks.flow_transformer_config import FlowTransformerConfig
from deblur_cli.networks.joint_transformer import DEFAULTS, JointTransformer, suffices


def build(name: str = "sd3-medium") -> tuple[FlowTransformer, FlowTransformer]:
    """One of diffusers, and a lean one with its weights; both with a prompt."""
    torch.manual_seed(0)
    theirs, ours = FlowTransformer(small(name)), FlowTransformer(small(name), lean=True)
    ours.load_base(theirs.base_state())
    for network in (theirs, ours):
        network.set_prompt(torch.ones(1, 3, 24), torch.ones(1, 12))
        network.eval().requires_grad_(False)
    return theirs, ours


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_it_is_that_of_diffusers_to_the_bit(dtype: torch.dtype) -> None:
    theirs, ours = (network.to(dtype) for network in build())
    assert isinstance(ours.transformer, JointTransformer)
    x_t, t, _ = points(3)
    velocity = theirs(x_t, t)
    assert velocity.std() > 0.01
    assert torch.equal(ours(x_t, t), velocity)
    for network in (theirs, ours):
        network.use_exact_gelu()
    assert not torch.equal(theirs(x_t, t), velocity)
    assert torch.equal(ours(x_t, t), theirs(x_t, t))


def test_an_adapter_is_added_as_peft_adds_it() -> None:
    theirs, ours = build()
    for network in (theirs, ours):
        network.widen()
    theirs.attach_lora(BOTH)
    torch.manual_seed(1)
    state = {key: torch.randn_like(value) * 0.1 for key, value in theirs.adapter_state().items()}
    theirs.load_adapter(state)
    theirs.fuse()
    ours.load_fused(BOTH, state)
    with torch.inference_mode():
        assert torch.equal(ours(*points(2)), theirs(*points(2)))
    for call in (lambda: ours.load_fused(BOTH, state), ours.fuse, ours.adapter_state):
        with pytest.raises(ValueError, match="LoRA"):
            call()


def test_an_adapter_that_does_not_fit_changes_nothing() -> None:
    _, ours = build()
    before = {key: value.clone() for key, value in ours.base_state().items()}
    with pytest.raises(ValueError, match=r"adapter weights do not fit the network: .* missing"):
        ours.load_fused(BOTH, {})
    assert all(torch.equal(value, before[key]) for key, value in ours.base_state().items())


def test_its_defaults_are_those_of_diffusers() -> None:
    parameters = inspect.signature(SD3Transformer2DModel.__init__).parameters.values()
    assert {one.name: one.default for one in parameters if one.name != "self"} == DEFAULTS


def test_what_it_does_not_know_is_left_to_diffusers() -> None:
    assert suffices(small("sd3-medium").settings)
    assert not suffices(small("sd3.5-medium").settings)
    network = FlowTransformer(small("sd3.5-medium"), lean=True)
    assert isinstance(network.transformer, SD3Transformer2DModel)


def test_more_tokens_than_positions_are_refused() -> None:
    config = FlowTransformerConfig("sd3", {**small("sd3-medium").transformer, "pos_embed_max_size": 4}, 8)
    network = FlowTransformer(config, lean=True)
    with pytest.raises(ValueError, match="a table of 4 positions a side has no 5x4 tokens"):
        network(torch.zeros(1, 4, 10, 8), torch.zeros(1))


def test_the_bundled_flow_needs_neither_diffusers_nor_peft() -> None:
    code = "import sys; from deblur_cli import load_model; load_model('quick+flow', device='cpu'); "
    code += "sys.exit(bool({'diffusers', 'peft', 'transformers'} & set(sys.modules)))"
    assert run_python(["-c", code]).returncode == 0
