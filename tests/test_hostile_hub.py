"""A mirror that means harm: what it names is no path outside the cache, and what it sends ends."""

import hashlib
import json
import os

import pytest
from support.hub_server import REPOSITORY, REVISION, Answer, serve_hub
from support.hub_user import use_empty_home, use_server

from deblur_cli.app import run_app
from deblur_cli.weights import hub as hub_module

CONTENT = os.urandom(100_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
SANE = Answer(method="HEAD")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub with one file, which is the user's model `net`, and a whole model."""
    use_empty_home(tmp_path / "a/b/c/d", monkeypatch)
    monkeypatch.setattr(hub_module, "WAITS", (0.01,))
    with serve_hub() as server:
        server.files["net.pth"] = CONTENT
        part = {"path": "net.pth", "bytes": len(CONTENT), "sha256": SHA256, "licence": "MIT"}
        table = {"format": 1, "name": "n", "summary": "s", "backend": "expert", "files": {"expert": part}}
        server.files["model.json"] = json.dumps(table).encode()
        use_server(server.url, monkeypatch)
        source = f"hf://{REPOSITORY}@{REVISION}/net.pth"
        assert run_app(["weights", "add", "net", source, "--sha256", SHA256]) == 0
        assert run_app(["weights", "add", "unknown", source]) == 0
        yield server


def refused(capfd, *arguments):
    """The one line of an answer with status 1."""
    capfd.readouterr()
    assert run_app(["weights", *arguments]) == 1
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("deblur: error: ")]
    assert len(lines) == 1
    return lines[0]


def kept(folder):
    """Bytes that lie below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


TAGS = ['"../../../../etc/evil"', '"..\\\\evil"', '".."', '"a/b"', 'W/"../x"', '"C:evil"', '"' + "e" * 300 + '"']


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("before", [[], [SANE]], ids=["at once", "at the second question"])
@pytest.mark.parametrize("what", [("pull", "net"), ("add", "whole", f"hf://{REPOSITORY}")], ids=["pull", "add"])
def test_an_etag_that_is_no_name_is_refused_before_anything_is_fetched(hub, capfd, tmp_path, tag, before, what):
    evil = Answer(method="HEAD", headers={"X-Linked-Etag": tag, "ETag": tag})
    hub.trouble = [*before, *[evil] * 9]
    files = {path for path in tmp_path.rglob("*") if path.is_file()}
    line = refused(capfd, *what)
    assert "is no name for a file" in line
    assert "use another HF_ENDPOINT" in line
    assert not hub.gets()
    assert not list(tmp_path.rglob("*evil*"))
    made = {path for path in tmp_path.rglob("*") if path.is_file()} - files
    assert all(path.suffix == ".lock" or path.name == "CACHEDIR.TAG" for path in made)


def test_a_commit_that_is_no_commit_is_refused(hub, capfd):
    hub.trouble = [Answer(method="HEAD", headers={"X-Repo-Commit": "../../../../evil"})] * 9
    assert "its commit '../../../../evil' is no name" in refused(capfd, "pull", "net")


@pytest.mark.parametrize("tag", ['"' + "0a" * 32 + '"', '"' + "0a" * 20 + '"', 'W/"abc-1.2_x"'])
def test_the_tags_of_mirrors_are_taken(hub, tag):
    hub.trouble = [Answer(method="HEAD", headers={"X-Linked-Etag": tag, "ETag": tag})] * 9
    assert run_app(["weights", "pull", "net"]) == 0


@pytest.mark.parametrize("name", ["net", "unknown"])
def test_a_body_without_an_end_is_stopped_at_the_promised_size(hub, capfd, tmp_path, name):
    hub.trouble = [Answer(endless=True)] * 9
    line = refused(capfd, "pull", name)
    assert f"sends more than the {len(CONTENT)} bytes that it may have" in line
    assert kept(tmp_path) < 50_000
    assert len(hub.large["endless"]) < 1500  # of 2000 pieces


def test_a_body_of_unknown_size_is_stopped_at_the_limit(hub, capfd, tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "LARGEST", 500_000)
    unknown = {"X-Linked-Size": "unknown"}
    hub.trouble = [Answer(method="HEAD", headers=unknown)] * 3 + [Answer(endless=True)] * 3
    assert "more than the" in refused(capfd, "pull", "unknown")
    assert kept(tmp_path) < 50_000


def test_a_model_json_without_an_end_is_stopped(hub, capfd, tmp_path):
    hub.trouble = [Answer(endless=True)] * 9
    size = len(hub.files["model.json"])
    assert f"sends more than the {size} bytes" in refused(capfd, "add", "whole", f"hf://{REPOSITORY}")
    assert kept(tmp_path) < 50_000


def test_a_model_json_that_is_too_large_is_not_fetched(hub, capfd):
    hub.files["model.json"] = b'{"a": "' + b"x" * 2_000_000 + b'"}'
    assert "over the limit of 1048576; it is no model.json" in refused(capfd, "add", "whole", f"hf://{REPOSITORY}")
    assert not hub.gets()
