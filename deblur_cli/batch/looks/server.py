"""The page of `deblur view` for the browser on this machine, and for nobody else.

It listens on 127.0.0.1 alone, at a port that the system picks. Every address begins with a random token, and whoever
has it not gets 403; so does a request under another host's name (DNS rebinding), and a change that comes from another
page. An address names numbers, never a path. Nothing is fetched from a network.

The command line of a browser can be read by everyone on the machine, so the token never stands there: the browser is
opened at an address that works once, and is sent on from it. Who is faster than the browser makes it fail in plain
sight.
"""

import hmac
import json
import re
import secrets
import shutil
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from deblur_cli.batch.looks.desk import Desk, Picture
from deblur_cli.errors import DeblurError

_HOST = "127.0.0.1"
_LONGEST = 4096  # bytes of a request that changes something
_ONCE = "/once/"  # before a ticket
_NONE: Mapping[str, str] = {}
_SECONDS = 30  # that a connection may stand still
_HEADERS = {
    "Referrer-Policy": "no-referrer",  # the address holds the token
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'; base-uri 'none'; form-action 'none'; object-src 'none'",
}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a page is.

    Attributes:
        lasting: with the token; for the user's eyes.
        once: leads there the first time it is asked for; for the command line of a browser.
    """

    lasting: str
    once: str


@contextmanager
def served(desk: Desk) -> Iterator[Address]:
    """Serve a desk while the block lasts."""
    server = _Server((_HOST, 0), _Handler)
    server.desk, server.token, server.tickets = desk, secrets.token_urlsafe(24), [secrets.token_urlsafe(24)]
    root = f"http://{_HOST}:{server.server_port}"
    address = Address(f"{root}/{server.token}/", f"{root}/once/{server.tickets[0]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="view", daemon=True)
    thread.start()
    try:
        yield address
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 64
    desk: Desk
    token: str
    tickets: list[str]  # for a browser that has not come yet

    def use_up(self, ticket: str) -> bool:
        """Whether this is the ticket and was not used before."""
        try:
            return _is_same(ticket, self.tickets[0]) and bool(self.tickets.pop())
        except IndexError:  # used up, perhaps by another thread just now
            return False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "deblur", ""
    timeout = _SECONDS

    def do_GET(self) -> None:
        """The page, a picture, or facts."""
        if self.path.startswith(_ONCE) and self._is_own():
            self._send_on(self.path.removeprefix(_ONCE))
            return
        place = self._enter()
        if place is None:
            return
        desk, numbered = self.server.desk, re.fullmatch(r"(thumb|before|after|facts)/(\d{1,7})", place, re.ASCII)
        try:
            if place == "":
                self._send(200, "text/html; charset=utf-8", desk.page().encode("utf-8", "replace"))
            elif numbered is None or int(numbered[2]) >= len(desk.results.files):
                self._refuse(404, "nothing is here")
            elif numbered[1] == "facts":
                self._send_json(200, desk.facts(int(numbered[2])))
            elif numbered[1] == "thumb":
                self._send_picture(desk.thumbnail(int(numbered[2])))
            else:
                self._send_picture(desk.picture(int(numbered[2]), numbered[1]))
        except (DeblurError, OSError) as fault:
            if not isinstance(fault, ConnectionError):
                self._refuse(404, str(fault))

    def do_POST(self) -> None:
        """A choice."""
        place = self._enter()
        if place is None:
            return
        length = self.headers.get("Content-Length", "")
        if place != "choice" or not re.fullmatch(r"\d{1,5}", length, re.ASCII) or int(length) > _LONGEST:
            self._refuse(404, "nothing is here")
            return
        try:
            number, verdict, model, strength = _read_choice(self.rfile.read(int(length)), self.server.desk)
        except (ValueError, KeyError, TypeError, RecursionError):
            self._refuse(400, "is no choice")
            return
        try:
            self._send_json(200, self.server.desk.choose(number, verdict, model, strength))
        except (DeblurError, OSError) as fault:
            if not isinstance(fault, ConnectionError):
                self._send_json(409, {"error": str(fault)})

    def _enter(self) -> str | None:
        """What is asked for below the token; None for whoever may not come in, who is told so."""
        _, token, place = [*self.path.partition("?")[0].split("/", 2), "", ""][:3]
        if _is_same(token, self.server.token) and self._is_own():
            return place
        self._refuse(403, "open the address that deblur view has printed")
        return None

    def _is_own(self) -> bool:
        """Whether the request is for this machine under its own name, and from no other page."""
        own = [f"{name}:{self.server.server_port}" for name in (_HOST, "localhost")]
        origin = self.headers.get("Origin")
        return self.headers.get("Host") in own and (origin is None or origin in [f"http://{host}" for host in own])

    def _send_on(self, ticket: str) -> None:
        """To the page, the first time."""
        if self.server.use_up(ticket):
            self._send(303, "text/plain; charset=utf-8", b"", {"Location": f"/{self.server.token}/"})
        else:
            self._refuse(
                403, "this address has been used, if not by you then by somebody else; start deblur view again"
            )

    def _send_picture(self, picture: Picture) -> None:
        if picture.path is None:
            self._send(200, picture.content_type, picture.content)
            return
        with picture.path.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            self._begin(200, picture.content_type, size)
            shutil.copyfileobj(stream, self.wfile, 1 << 20)

    def _send_json(self, status: int, content: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _refuse(self, status: int, text: str) -> None:
        self.close_connection = True  # what else came with the request is not read
        self._send(status, "text/plain; charset=utf-8", f"{text}\n".encode("utf-8", "replace"))

    def _send(self, status: int, content_type: str, content: bytes, headers: Mapping[str, str] = _NONE) -> None:
        self._begin(status, content_type, len(content), headers)
        self.wfile.write(content)

    def _begin(self, status: int, content_type: str, length: int, headers: Mapping[str, str] = _NONE) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "private, max-age=600" if content_type.startswith("image/") else "no-store")
        if self.close_connection:
            self.send_header("Connection", "close")
        for name, value in {**_HEADERS, **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *values: Any) -> None:
        """Nobody reads it."""


def _is_same(told: str, secret: str) -> bool:
    return hmac.compare_digest(told.encode("utf-8", "replace"), secret.encode())


def _read_choice(content: bytes, desk: Desk) -> tuple[int, str, str, float | None]:
    told = json.loads(content)
    number, verdict, model, strength = told["number"], told["choice"], told.get("model", ""), told.get("strength")
    is_number = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < len(desk.results.files)
    is_strength = strength is None or (isinstance(strength, int | float) and not isinstance(strength, bool))
    if not (is_number and isinstance(verdict, str) and isinstance(model, str) and is_strength):
        raise ValueError
    return number, verdict, model, None if strength is None else float(strength)
