"""The page of results as its server gives it out: to whom, what, and what it writes down."""

import http.client
import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from support.photo_folders import photo, tree
from support.result_folders import STAMP, make_result, make_source

from deblur_cli.batch.looks.choices import FILE_NAME, Choice, ChoiceFile
from deblur_cli.batch.looks.desk import Desk, OfferedModel
from deblur_cli.batch.looks.results import SourceFinder, find_results
from deblur_cli.batch.looks.server import served
from deblur_cli.errors import InputError, PhotoError
from deblur_cli.system.kept_files import KeptFiles

pytestmark = pytest.mark.usefixtures("own_folder")
MODELS = [OfferedModel("standard", False), OfferedModel("quick+flow", True)]


def lay(folder: str = "out", **sources: Path) -> Desk:
    results = find_results(Path(folder))
    finder = SourceFinder(results.folder, tuple(sources.values()))
    return Desk(results, finder, ChoiceFile(results.folder / FILE_NAME), MODELS, lambda text: (text, None))


@pytest.fixture
def address() -> Iterator[str]:
    """Two results and their photos, served."""
    make_result(make_source(Path("in/a.jpg")), Path("out/a.jpg"), notice="the flow <b> invented colours")
    make_result(make_source(Path("in/day 1/b.png"), 1), Path("out/day 1/b_sharp.png"))
    photo("out/foreign.jpg")
    with served(lay()) as found:
        yield found.lasting


def ask(address: str, place: str, method: str = "GET", body: str | None = None, **headers: str) -> tuple[int, bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=10)
    try:
        connection.request(method, place, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def choose(address: str, **choice: object) -> tuple[int, dict]:
    status, body = ask(address, urlsplit(address).path + "choice", "POST", json.dumps(choice))
    return status, json.loads(body) if body.startswith(b"{") else {}


def test_whoever_has_not_the_token_gets_403_whatever_is_asked(address):
    token = urlsplit(address).path
    for place in (
        "/",
        "/favicon.ico",
        "/thumb/0",
        f"{token[:-2]}/",
        f"{token[:-1]}x/thumb/0",
        "//",
        "/%C3%A9",
        token[:-4] + "/before/0",
    ):
        assert ask(address, place)[0] == 403
        assert ask(address, place, "POST", "{}")[0] == 403
    assert ask(address, token)[0] == 200
    assert len(token) > 24


def test_the_address_for_a_browsers_command_line_works_once_and_does_not_hold_the_token():
    make_result(make_source(Path("in/a.jpg")), Path("out/a.jpg"))
    with served(lay()) as address:
        token, once = urlsplit(address.lasting).path, urlsplit(address.once)
        assert token.strip("/") not in address.once
        assert ask(address.once, "/once/")[0] == ask(address.once, once.path + "x")[0] == 403
        assert ask(address.once, once.path, Host="evil.example")[0] == 403
        assert ask(address.once, once.path, "POST", "{}")[0] == 403
        connection = http.client.HTTPConnection(once.hostname or "", once.port, timeout=10)
        connection.request("GET", once.path)
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Location"]) == (303, token)
        connection.close()
        status, text = ask(address.once, once.path)
        assert (status, b"somebody else" in text) == (403, True)
        assert ask(address.lasting, token)[0] == 200


def test_another_host_name_and_another_page_get_403(address):
    token, port = urlsplit(address).path, urlsplit(address).port
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1", f"127.0.0.1:{port + 1}"):
        assert ask(address, token, Host=host)[0] == 403
    assert ask(address, token, Host=f"localhost:{port}")[0] == 200
    body = json.dumps({"number": 0, "choice": "keep"})
    assert ask(address, token + "choice", "POST", body, Origin="http://evil.example")[0] == 403
    assert ask(address, token + "choice", "POST", body, Origin="null")[0] == 403
    assert not Path("out", FILE_NAME).exists()


def test_addresses_name_numbers_and_never_a_path(address):
    token = urlsplit(address).path
    secret = Path("secret.txt")
    secret.write_text("secret")
    for place in (
        "../secret.txt",
        "%2e%2e/secret.txt",
        "after/../../secret.txt",
        f"after/{secret.resolve()}",
        "after/9",
        "after/-1",
        "after/0x0",
        "thumb/00000000",
        "before/0/..",
        "after/%D9%A1",
        "choice",
        "nothing",
    ):
        status, body = ask(address, token + place)
        assert status == 404
        assert b"secret" not in body


def test_the_page_needs_no_network_and_escapes_what_it_is_told(address):
    _, page = ask(address, urlsplit(address).path)
    assert b"//" not in page.replace(b"// ", b"").replace(b"//\n", b"") or b"https:" not in page
    assert b"default-src 'none'" in page
    facts = json.loads(ask(address, urlsplit(address).path + "facts/0")[1])
    assert facts["notice"] == "the flow <b> invented colours"
    assert facts["recipe"] == "quick · seed 0 · expert abababab"
    assert (facts["width"], facts["height"], facts["fault"]) == (64, 48, "")


def test_results_are_paired_with_their_photos_whatever_they_are_called(address):
    token = urlsplit(address).path
    assert ask(address, token + "before/0") == (200, Path("in/a.jpg").read_bytes())
    assert ask(address, token + "after/1") == (200, Path("out/day 1/b_sharp.png").read_bytes())
    assert ask(address, token + "before/1") == (200, Path("in/day 1/b.png").read_bytes())
    assert ask(address, token + "thumb/1")[1][8:12] == b"WEBP"


def test_a_second_desk_makes_no_thumbnail_anew_unless_the_result_is_another():
    result = make_result(make_source(Path("in/a.jpg")), Path("out/a.jpg"))
    kept = KeptFiles(Path("kept"), 10_000)
    one, two, three = replace(lay(), kept=kept), replace(lay(), kept=kept), lay()
    first = one.thumbnail(0)
    whole, status = result.read_bytes(), result.stat()
    result.write_bytes(bytes(len(whole)))  # of which nothing can be made
    os.utime(result, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert two.thumbnail(0) == first
    with pytest.raises(PhotoError):
        three.thumbnail(0)
    make_result(make_source(Path("in/b.jpg"), 1), result)
    assert replace(lay(), kept=kept).thumbnail(0) != first
    assert one.thumbnail(0) != first
    assert len(tree("kept")) == 2


def test_a_result_that_is_done_again_meanwhile_is_told_as_it_is_now(address):
    token = urlsplit(address).path
    told = choose(address, number=0, choice="redo", model="standard")[1]
    assert (told["done"], told["by"]) == (False, "quick")
    make_result(Path("in/a.jpg"), Path("out/a.jpg"), replace(STAMP, model="standard"))
    facts = json.loads(ask(address, token + "facts/0")[1])
    assert facts["recipe"].startswith("standard · ")
    assert (facts["notice"], facts["result"]["done"], facts["result"]["by"]) == ("", True, "standard")
    assert facts["result"]["version"] != told["version"]
    assert facts["result"]["version"].encode() in ask(address, token)[1]
    assert ask(address, f"{token}after/0?{told['version']}")[1] == Path("out/a.jpg").read_bytes()
    Path("out/a.jpg").unlink()
    gone = json.loads(ask(address, token + "facts/0")[1])
    assert (gone["recipe"], gone["width"], "cannot be read" in gone["fault"]) == (facts["recipe"], 0, True)


def test_a_thumbnail_is_of_the_result_even_if_another_one_has_its_size_and_time():
    kept = KeptFiles(Path("kept"), 10_000)
    source = make_source(Path("in/a.tif"))
    result = make_result(source, Path("out/a.tif"))
    replace(lay(), kept=kept).thumbnail(0)
    status = result.stat()
    make_result(source, result, replace(STAMP, model="shake"))
    os.utime(result, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert result.stat().st_size == status.st_size
    replace(lay(), kept=kept).thumbnail(0)
    assert len(tree("kept")) == 2


def test_a_photo_that_is_gone_has_a_clear_place(address):
    Path("in/a.jpg").unlink()
    token = urlsplit(address).path
    status, body = ask(address, token + "before/0")
    assert (status, b"deblur view --sources FOLDER" in body) == (404, True)
    assert "was not found" in json.loads(ask(address, token + "facts/0")[1])["fault"]
    status, told = choose(address, number=0, choice="redo", model="standard")
    assert (status, "cannot be done again" in told["error"]) == (409, True)
    assert choose(address, number=0, choice="reject")[0] == 200


def test_a_result_that_was_made_with_a_mask_is_not_chosen_for_what_from_view_refuses(address):
    masked = replace(STAMP, options={**STAMP.options, "mask_sha256": "f" * 64})
    make_result(Path("in/a.jpg"), Path("out/a.jpg"), masked)
    status, told = choose(address, number=0, choice="redo", model="standard")
    assert (status, "--mask FILE" in told["error"]) == (409, True)
    assert choose(address, number=0, choice="keep")[0] == 200


def test_a_photo_elsewhere_under_another_name_is_found_by_its_hash():
    source = make_source(Path("card/x.jpg"))
    make_result(source, Path("here/out/a.jpg"))
    make_source(Path("here/a.jpg"), 5)  # another photo with the right name
    result = find_results(Path("here/out")).files[0]
    assert SourceFinder(Path("here/out")).find(result) is None
    assert SourceFinder(Path("here/out"), [Path("card")]).find(result) == source
    assert SourceFinder(Path("here/out")).find(result, hint=source) == source


def test_choices_are_written_at_once_and_taken_back(address):
    assert choose(address, number=0, choice="keep")[1]["choice"] == "keep"
    lines = Path("out", FILE_NAME).read_text().splitlines()
    assert lines[2:] == ["keep\ta.jpg"]
    told = choose(address, number=1, choice="redo", model="quick+flow", strength=0.25)[1]
    assert (told["choice"], told["model"], told["done"]) == ("redo", "quick+flow:strength=0.25", False)
    choose(address, number=0, choice="")
    lines = Path("out", FILE_NAME).read_text().splitlines()
    assert lines[2:] == ["redo\tday 1/b_sharp.png\tquick+flow:strength=0.25\t../in/day 1/b.png"]
    assert tree("out") == ["a.jpg", "day 1/b_sharp.png", FILE_NAME, "foreign.jpg"]


@pytest.mark.parametrize(
    "choice",
    [
        {"number": 7, "choice": "keep"},
        {"number": True, "choice": "keep"},
        {"number": "0", "choice": "keep"},
        {"number": 0, "choice": "delete"},
        {"number": 0, "choice": "redo", "model": "none"},
        {"number": 0, "choice": "redo", "model": "quick+flow", "strength": 2},
        {"number": 0, "choice": "redo", "model": "quick+flow", "strength": "1"},
        {"choice": "keep"},
    ],
)
def test_a_choice_that_is_none_is_refused(address, choice):
    assert choose(address, **choice)[0] in (400, 409)
    assert not Path("out", FILE_NAME).exists()


def test_a_choice_file_keeps_remarks_and_what_is_written_by_hand_meanwhile():
    file = ChoiceFile(Path("choices.txt"))
    odd = "a\tb\n%09 é\udcff.jpg"
    file.put(odd, Choice("redo", odd, "best", "../in/x.jpg"))
    Path("choices.txt").write_bytes(Path("choices.txt").read_bytes() + b"# mine\nreject\tc.jpg\n")
    file.put("d.jpg", Choice("keep", "d.jpg"))
    assert list(file.read()) == [odd, "c.jpg", "d.jpg"]
    assert file.read()[odd] == Choice("redo", odd, "best", "../in/x.jpg")
    assert b"# mine\n" in Path("choices.txt").read_bytes()


@pytest.mark.parametrize(
    "line", ["keep", "delete\ta.jpg", "redo\ta.jpg", "redo\ta.jpg\tbest", "keep\ta\tb\tc\td", "keep a.jpg"]
)
def test_a_line_that_is_no_choice_is_named(line):
    Path("choices.txt").write_text(f"# first\n{line}\n")
    with pytest.raises(InputError, match=r"^choices.txt: line 2 is no choice: [^\n]+$"):
        ChoiceFile(Path("choices.txt")).read()


def test_every_mistake_is_one_line(command):
    Path("empty").mkdir()
    foreign = photo("mine/a.jpg")
    make_result(make_source(Path("in/b.png")), Path("out/b.png"))
    Path("out", FILE_NAME).write_text("nonsense\n")
    cases = {
        (): "no results; name the folder",
        ("empty",): "empty: holds no result of this tool",
        ("mine",): "mine: holds no result of this tool",
        (foreign,): "mine/a.jpg: is no result of this tool",
        ("none",): "none: no such file or folder",
        ("out",): "deblur-choices.txt: line 1 is no choice",
        ("out", "--sources", "none"): "--sources none: no such folder",
        ("out", "--export", "a.txt"): "must end in .html",
        ("out", "--export", "mine"): "must end in .html",
    }
    for arguments, words in cases.items():
        status, out, err = command("view", *arguments, "--no-browser")
        assert (status, out, len(err)) == (2, [], 1), err
        assert words in err[0]


def test_an_export_is_one_page_that_needs_nothing_else(command):
    make_result(make_source(Path("in/a.jpg")), Path("out/a.jpg"), notice="told")
    make_result(make_source(Path("in/b.png"), 1), Path("out/b.png"))
    Path("in/b.png").unlink()
    assert command("view", "out", "--export", "sent.html", "-q") == (0, ["sent.html"], [])
    page = Path("sent.html").read_text(encoding="utf-8")
    assert page.count("data:image/webp") == 2
    assert "its photo was not found" in page
    assert '<p class="told">told</p>' in page
    Path("out", FILE_NAME).write_text("reject\ta.jpg\n")
    command("view", "out", "--export", "sent.html", "-q")
    assert "decided: reject" in Path("sent.html").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_told(address):
    Path("out").chmod(0o500)
    status, told = choose(address, number=0, choice="keep")
    Path("out").chmod(0o700)
    assert (status, "cannot be written" in told["error"]) == (409, True)
