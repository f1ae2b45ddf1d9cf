"""Exported models on a Hub: what is pushed comes back, and what goes wrong is said in one line."""

from pathlib import Path

import pytest
from support.export_factory import LAYOUT, PUSH, REPOSITORY, content, export, hash_of, refusal, write_training
from support.hub_server import serve_hub
from support.hub_user import use_server

from deblur_cli import weights
from deblur_cli.app import run_app
from deblur_cli.backends import load_model
from deblur_cli.weights import hub as hub_module
from deblur_cli.weights.manifest import user_manifest_path

# huggingface_hub's plain uploads call their HTTP client in a way that it calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def work(tmp_path, monkeypatch):
    write_training(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def hub(work, monkeypatch):
    """A Hub that the token "mine" may write to; its user is logged in."""
    import time

    real_sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: real_sleep(min(seconds, 0.01)))
    monkeypatch.setattr(hub_module, "WAITS", (0.01, 0.01, 0.01))
    monkeypatch.setenv("HF_TOKEN", "mine")
    with serve_hub() as server:
        server.writer = "mine"
        use_server(server.url, monkeypatch)
        monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", server.url)
        yield server


def test_what_is_pushed_comes_back_byte_for_byte(hub, capfd):
    assert export(*PUSH, "--private") == 0
    out, err = capfd.readouterr()
    ((commit, sent),) = hub.pushed[REPOSITORY].items()
    assert out == f"out\n{hub.url}/{REPOSITORY}\nhf://{REPOSITORY}@{commit}\n"
    assert f"deblur weights add sharp hf://{REPOSITORY}@{commit}\n" in err
    assert sent == content(Path("out"))
    assert hub.private == {REPOSITORY: True}
    assert sorted(hub.large) == sorted(hash_of(path) for path in Path("out").rglob("*.safetensors"))
    assert f"deblur weights add sharp hf://{REPOSITORY}\n".encode() in sent["README.md"]

    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}"]) == 0  # main, as it is today
    entry = weights.find_model("theirs")
    assert {file.revision for file in entry.files.values()} == {commit}
    capfd.readouterr()
    assert run_app(["weights", "pull", "theirs", "--quiet"]) == 0
    for line in capfd.readouterr().out.splitlines():
        name = line.partition(f"{commit}/")[2]
        assert Path(line).read_bytes() == sent[name], line
    assert load_model("theirs", device="cpu", dtype="float32").settings.steps == 4


def test_pushing_again_makes_a_commit_and_an_added_model_keeps_its_own(hub, capfd):
    assert export(*PUSH) == 0
    first = next(iter(hub.pushed[REPOSITORY]))
    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}@main"]) == 0
    assert export(*PUSH, "--steps", "8", out="again") == 0
    assert len(hub.pushed[REPOSITORY]) == 2
    assert weights.find_model("theirs").files["codec"].revision == first
    assert weights.find_model("theirs").flow["steps"] == 4
    assert run_app(["weights", "add", "newer", f"hf://{REPOSITORY}"]) == 0
    assert weights.find_model("newer").flow["steps"] == 8


PUSH_FAULTS = [
    (401, "POST", "does not know this token (401); run 'hf auth login' or set HF_TOKEN, then hf upload me/sharp out"),
    (403, "POST", "this token may not write to"),
    (503, "POST", "is out of order (503); wait a little, then hf upload me/sharp out"),
    (429, "POST", "asks for fewer requests (429)"),
    (403, "PUT", "this token may not write to"),
    (500, "PUT", "is out of order (500)"),
]


@pytest.mark.parametrize(("status", "method", "text"), PUSH_FAULTS, ids=[f"{row[0]} {row[1]}" for row in PUSH_FAULTS])
def test_a_push_that_is_refused_is_one_line_with_the_next_command(hub, capfd, status, method, text):
    from support.hub_server import Answer

    hub.trouble = [Answer(status, method=method) for _ in range(200)]
    assert export(*PUSH) == 1
    out, err = capfd.readouterr()
    assert out == "out\n"  # it is written and can be sent by hand
    assert err.count("\n") == 1, err
    assert err.startswith("deblur: error: out: written but not pushed: ")
    assert text in err
    assert sorted(content(Path("out"))) == LAYOUT


def test_a_token_that_may_not_write_there_is_said(hub, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "somebody's")
    assert export(*PUSH) == 1
    assert f"this token may not write to {hub.url}/{REPOSITORY} (403)" in capfd.readouterr().err


def test_a_passing_trouble_does_not_stop_a_push(hub):
    from support.hub_server import Answer

    hub.trouble = [Answer(503, method="POST"), Answer(500, method="PUT")]
    assert export(*PUSH) == 0
    assert len(hub.pushed[REPOSITORY]) == 1


def test_no_network_is_said_after_the_folder_is_written(work, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    monkeypatch.setattr("huggingface_hub.hf_api.api.endpoint", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(hub_module, "WAITS", (0.01,))
    assert export(*PUSH) == 1
    assert "http://127.0.0.1:9 cannot be reached (" in capfd.readouterr().err


def test_nothing_is_written_for_a_push_without_a_network_that_is_allowed(work, capfd, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "mine")
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    assert "nothing is sent offline" in refusal(capfd, export(*PUSH))


def test_a_model_on_the_hub_is_added_offline_once_its_description_is_in_the_cache(hub, capfd, monkeypatch):
    assert export(*PUSH, "--quiet") == 0
    commit = next(iter(hub.pushed[REPOSITORY]))
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    capfd.readouterr()
    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}@{commit}"]) == 1
    assert "nothing is fetched offline" in capfd.readouterr().err
    monkeypatch.delenv("DEBLUR_OFFLINE")
    assert run_app(["weights", "add", "theirs", f"hf://{REPOSITORY}@{commit}"]) == 0
    monkeypatch.setenv("DEBLUR_OFFLINE", "1")
    assert run_app(["weights", "add", "again", f"hf://{REPOSITORY}@{commit}"]) == 0


def test_what_is_not_there_on_the_hub_is_said(hub, capfd, monkeypatch):
    for source, text in (
        ("hf://someone/nets", "has no model.json; name one of its files: hf://someone/nets@COMMIT/FILE"),
        ("hf://someone/nets@other", "has no revision other"),
        ("hf://nobody/nothing", "was not found, is private, or HF_TOKEN is not valid"),
    ):
        assert run_app(["weights", "add", "x", source]) == 1
        out, err = capfd.readouterr()
        assert (out, err.count("\n")) == ("", 1), err
        assert text in err
    assert not user_manifest_path().exists()
