"""A server on 127.0.0.1 that speaks the Hub's part of HTTP, and misbehaves as it is told.

One repository at one commit, and whatever is pushed. `trouble` is what the next answers do; it is consumed one by one.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REPOSITORY = "someone/nets"
REVISION = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Answer:
    """Instead of the file: a status and the Hub's word for it. With `cut`, that many bytes and then silence.

    A status of 200 sends the file, with these headers; with `endless`, bytes without an end.
    """

    status: int = 200
    code: str = ""
    cut: int | None = None
    method: str = "GET"
    endless: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Hub:
    """What the server has and what was asked of it."""

    files: dict[str, bytes] = field(default_factory=dict)
    sent: dict[str, bytes] = field(default_factory=dict)  # what is sent instead, under the promise of the real hash
    trouble: list[Answer] = field(default_factory=list)
    gate: str = ""  # the token that opens the repository
    delay: threading.Event | None = None  # a GET waits for it
    requests: list[tuple[str, str, str]] = field(default_factory=list)  # method, file, range
    writer: str = ""  # the token that may write
    pushed: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)  # repository, commit, file
    private: dict[str, bool] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)  # sha256 -> what came over the protocol of large files
    waiting: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    def gets(self) -> list[str]:
        """The ranges that were asked for, in order; empty is the whole file."""
        return [span for method, _, span in self.requests if method == "GET"]

    def find(self, repository: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        """The commit of a revision, and its files."""
        commits = {REVISION: self.files} if repository == REPOSITORY else self.pushed.get(repository, {})
        commit = next(reversed(commits), None) if revision == "main" else revision
        return (commit, commits[commit]) if commit in commits else None

    def next_trouble(self, method: str) -> Answer | None:
        """The trouble that this request meets."""
        with self.lock:
            found = next((answer for answer in self.trouble if answer.method in (method, "*")), None)
            if found is not None:
                self.trouble.remove(found)
            return found


@contextmanager
def serve_hub() -> Iterator[Hub]:
    """A Hub for the length of the block."""
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer("HEAD")

        def do_GET(self) -> None:
            self._answer("GET")

        def log_message(self, *_: object) -> None:
            pass

        def _answer(self, method: str) -> None:
            match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", self.path)
            if match is None:  # what the client asks besides, for itself
                self._refuse(404, "")
                return
            repository, revision, name = match.groups()
            with hub.lock:
                hub.requests.append((method, name, self.headers.get("Range", "")))
            trouble = hub.next_trouble(method)
            if trouble is not None and trouble.status != 200:
                self._refuse(trouble.status, trouble.code, trouble.headers)
            elif repository != REPOSITORY and repository not in hub.pushed:
                self._refuse(401, "RepoNotFound")
            elif hub.gate and self.headers.get("Authorization") != f"Bearer {hub.gate}":
                self._refuse(403 if "Authorization" in self.headers else 401, "GatedRepo")
            elif (found := hub.find(repository, revision)) is None:
                self._refuse(404, "RevisionNotFound")
            elif name not in found[1]:
                self._refuse(404, "EntryNotFound")
            else:
                self._send(method, name, found, trouble or Answer())

        def _refuse(self, status: int, code: str, headers: dict[str, str] | None = None) -> None:
            self.send_response(status)
            if code:
                self.send_header("X-Error-Code", code)
            for key, value in (headers or {}).items():
                self.send_header(key, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self._take("POST")

        def do_PUT(self) -> None:
            self._take("PUT")

        def _take(self, method: str) -> None:
            """One of the requests that a push is made of."""
            body = self._read_body()
            trouble = hub.next_trouble(method)
            if trouble is not None:
                self._refuse(trouble.status, trouble.code, trouble.headers)
            elif method == "PUT":  # to the storage of large files, whose address is the permission
                hub.large[hashlib.sha256(body).hexdigest()] = body
                self._tell({})
            elif self.path == "/api/validate-yaml":
                self._tell({"warnings": [], "errors": []})
            elif "Authorization" not in self.headers:
                self._refuse(401, "")
            elif hub.writer and self.headers["Authorization"] != f"Bearer {hub.writer}":
                self._refuse(403, "")
            else:
                self._tell(self._push(body))

        def _push(self, body: bytes) -> dict[str, object]:
            if self.path == "/api/repos/create":
                wanted = json.loads(body)
                repository = f"{wanted['organization']}/{wanted['name']}"
                hub.pushed.setdefault(repository, {})
                hub.private.setdefault(repository, wanted.get("visibility") == "private")
                return {"url": f"{hub.url}/{repository}"}
            if self.path.endswith(".git/info/lfs/objects/batch"):
                wanted = json.loads(body)["objects"]
                where = [{"upload": {"href": f"{hub.url}/large/{entry['oid']}"}} for entry in wanted]
                return {"objects": [{**entry, "actions": place} for entry, place in zip(wanted, where, strict=True)]}
            _, _, _, owner, name, what, _ = self.path.split("/")
            if what == "preupload":
                paths = [entry["path"] for entry in json.loads(body)["files"]]
                modes = ["lfs" if path.endswith(".safetensors") else "regular" for path in paths]
                told = zip(paths, modes, strict=True)
                return {"files": [{"path": path, "uploadMode": mode, "shouldIgnore": False} for path, mode in told]}
            return self._commit(f"{owner}/{name}", [json.loads(line) for line in body.splitlines()])

        def _commit(self, repository: str, lines: list[dict[str, dict[str, str]]]) -> dict[str, object]:
            commits = hub.pushed[repository]
            files = dict(commits[next(reversed(commits))]) if commits else {}
            for line in lines:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = hub.large[value["oid"]]
            commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
            commits[commit] = files
            return {"commitUrl": f"{hub.url}/{repository}/commit/{commit}", "commitOid": commit}

        def _read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _tell(self, answer: dict[str, object]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def _send(self, method: str, name: str, found: tuple[str, dict[str, bytes]], answer: Answer) -> None:
            if method == "GET" and hub.delay is not None:
                hub.waiting.set()
                hub.delay.wait(20)
            commit, files = found
            promised, content = files[name], hub.sent.get(name, files[name])
            start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
            self.send_response(206 if start else 200)
            digest = hashlib.sha256(promised).hexdigest()
            told = {"X-Repo-Commit": commit, "ETag": f'"{digest}"', "X-Linked-Etag": f'"{digest}"'}
            for key, value in {**told, "X-Linked-Size": str(len(promised)), **answer.headers}.items():
                self.send_header(key, value)
            if answer.endless and method == "GET":
                self._send_without_end()
                return
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            if method == "GET":
                self.wfile.write(content[start : len(content) if answer.cut is None else answer.cut])
                self.close_connection = answer.cut is not None

        def _send_without_end(self) -> None:
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            with suppress(OSError):
                for _ in range(2000):
                    self.wfile.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
                    hub.large["endless"] = hub.large.get("endless", b"") + b"."
            self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
