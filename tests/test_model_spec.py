"""`NAME:steps=8,strength=0.5`: what it says, and what a model takes of it."""

import pickle
from pathlib import Path

import pytest
from support.deblur_process import run_python
from support.export_factory import write_expert

from deblur_cli import weights
from deblur_cli.backends import load_model
from deblur_cli.errors import InputError, WeightsError
from deblur_cli.system.typed_tables import read_table
from deblur_cli.weights import ModelEntry
from deblur_cli.weights.entries import FlowSettings
from deblur_cli.weights.model_spec import ModelSpec, resolve


def entry(backend: str, **flow: object) -> ModelEntry:
    return ModelEntry("m", backend, "s", {}, flow=flow)


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("bundled", ModelSpec("bundled")),
        ("m:steps=8", ModelSpec("m", 8)),
        ("m:strength=0.50", ModelSpec("m", None, 0.5)),
        ("m:strength=1,steps=08", ModelSpec("m", 8, 1.0)),
        ("m:strength=.25", ModelSpec("m", None, 0.25)),
        ("m:strength=0", ModelSpec("m", None, 0.0)),
    ],
)
def test_a_text_becomes_a_model_and_its_settings(text: str, spec: ModelSpec) -> None:
    assert ModelSpec.parse(text) == spec


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("m", "m"),
        ("m:strength=1.0,steps=4", "m:steps=4,strength=1"),
        ("m:strength=0.123456789", "m:strength=0.123456789"),
        ("m:strength=1e-5", "m:strength=1e-05"),
    ],
)
def test_equal_settings_have_one_text_and_it_reads_back(text: str, canonical: str) -> None:
    assert str(ModelSpec.parse(text)) == canonical
    assert ModelSpec.parse(canonical) == ModelSpec.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "", ":steps=4", "m:", "m:steps", "m:steps=", "m:steps=4,", "m:steps=4,steps=5", "m:steps=4.5", "m:steps=-1",
        "m:steps=0", "m:steps=1001", "m:steps=99999", "m:strength=nan", "m:strength=1.5", "m:strength=-0.1", "m:seed=1",
        "m:steps=1_0", "m:steps=4:strength=1", "m: steps=4",
    ],
)  # fmt: skip
def test_what_is_no_specification_is_refused_with_its_text(text: str) -> None:
    with pytest.raises(InputError, match="--model"):
        ModelSpec.parse(text)


def test_options_outdo_the_text() -> None:
    spec = ModelSpec.parse("m:steps=8,strength=0.5")
    assert spec.override(steps=None, strength=0.0) == ModelSpec("m", 8, 0.0)
    assert spec.override(steps=None) == spec


def test_the_user_outdoes_the_manifest_and_the_manifest_the_defaults() -> None:
    dual = entry("dual_expert", strength=0.75, start_noise=0.2)
    assert ModelSpec("m").choose_settings(dual) == {"steps": FlowSettings().steps, "strength": 0.75, "start_noise": 0.2}
    assert ModelSpec("m", 2, 0.0).choose_settings(dual) == {"steps": 2, "strength": 0.0, "start_noise": 0.2}


def test_an_expert_alone_has_nothing_to_set() -> None:
    assert ModelSpec("m").choose_settings(entry("expert")) == {}
    for spec in (ModelSpec("m", 4), ModelSpec("m", None, 1.0)):
        with pytest.raises(InputError, match=r"--model m: takes no st.*an expert alone"):
            spec.choose_settings(entry("expert"))
    with pytest.raises(WeightsError, match="backend expert takes no flow steps"):
        ModelSpec("m").choose_settings(entry("expert", steps=4))


def test_deblurdiff_takes_steps_only_and_its_default_is_the_backends() -> None:
    from deblur_cli.backends.diffusion import DEFAULT_STEPS

    assert ModelSpec("m").choose_settings(entry("deblurdiff")) == {"steps": DEFAULT_STEPS}
    assert ModelSpec("m", 20).choose_settings(entry("deblurdiff", steps=30)) == {"steps": 20}
    with pytest.raises(InputError, match="takes no strength"):
        ModelSpec("m", None, 0.5).choose_settings(entry("deblurdiff"))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"steps": 0}, "steps must be 1 to 1000"),
        ({"steps": True}, "steps = True must be"),
        ({"steps": 4.0}, "steps = 4.0 must be"),
        ({"strength": 1.1}, "strength must be"),
        ({"strength": float("nan")}, "strength = nan must be a number"),
        ({"start_noise": -0.1}, "start_noise must be"),
        ({"generic_noise": 0}, "generic_noise must be"),
        ({"guard": 1}, "guard = 1 must be true or false"),
        ({"step": 4}, "unknown key 'step'; FlowSettings has steps, strength"),
    ],
)
def test_a_setting_outside_of_its_range_is_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        read_table(FlowSettings, values)


def test_a_model_is_looked_up_once_and_then_travels_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_expert(tmp_path / "mine.safetensors")
    model = resolve(ModelSpec("bundled", steps=2, expert=str(tmp_path / "mine.safetensors")))
    assert (model.name, model.expert and model.expert.name) == ("quick+flow", "mine")
    sent = pickle.loads(pickle.dumps(model))
    assert (sent, sent.hashes) == (model, model.hashes)
    monkeypatch.setattr(weights, "find_model", lambda name: pytest.fail("looked up again"))
    assert load_model(sent, device="cpu", dtype="float32").settings.steps == 2


def test_an_expert_alone_has_neither_name_nor_flow(tmp_path: Path) -> None:
    write_expert(tmp_path / "mine.safetensors")
    assert resolve(tmp_path / "mine.safetensors").name == "mine"
    with pytest.raises(InputError, match="--steps 4: --expert quick alone has no flow; add a --model that has one"):
        ModelSpec(steps=4, expert="quick")
    with pytest.raises(InputError, match="no model; see"):
        resolve(ModelSpec())


def test_it_needs_no_torch() -> None:
    code = "import sys, deblur_cli.weights.model_spec; sys.exit(bool({'torch', 'numpy'} & set(sys.modules)))"
    assert run_python(["-c", code]).returncode == 0
