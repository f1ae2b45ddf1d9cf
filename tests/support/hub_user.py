"""Who talks to the Hub in a test: somebody with an empty home, and with another server in the Hub's place."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants


def use_empty_home(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings, cache and token in `folder`; nothing of the environment is seen, and the network is allowed."""
    for name in [name for name in os.environ if name.startswith(("DEBLUR_", "HF_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DEBLUR_CONFIG_HOME", str(folder / "settings"))
    monkeypatch.setattr(constants, "HF_HOME", str(folder / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "home" / "token"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)


def stay_offline(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty home, work in `folder`, and nothing that goes to a network."""
    use_empty_home(folder, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(folder)


def use_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the place of the Hub."""
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")
