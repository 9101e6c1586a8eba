"""The web server behind the page of `experiments.explore`: for the browser of this computer, and for nobody else.

It listens on 127.0.0.1. Pages from elsewhere cannot reach it through the browser: names other than those of this
computer are refused (else a stranger's name could be pointed here), and a question with a body must be JSON, which a
browser sends to another origin only if that agrees. The page loads nothing, and runs no script but its own.
"""

import base64
import hashlib
import http
import http.server
import json
import pathlib
import re
import sys
import urllib.parse
from collections.abc import Mapping
from typing import Any

from alterrec_jax.errors import UserError
from alterrec_jax.serving.requests import encoded
from experiments.explore_answers import Explorer

ADDRESS = "127.0.0.1"
PAGE = pathlib.Path(__file__).with_name("explore.html")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_BYTES = 1 << 16
_SECONDS = 30  # for a browser to send its request


class _Refused(Exception):
    """A request that is not answered, with its status."""

    def __init__(self, status: http.HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


class Server(http.server.ThreadingHTTPServer):
    """Serves the page and its questions.

    Raises:
      UserError: the port is taken, or not ours to take.
    """

    daemon_threads = True  # a browser that keeps a connection open does not keep the process

    def __init__(self, explorer: Explorer, port: int = 0):
        """Listens on a port of the loopback address, on a free one for 0."""
        self.explorer, self.page = explorer, PAGE.read_bytes()
        self.policy = content_security_policy(self.page.decode())
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UserError(f"--port={port} cannot be used ({error.strerror}); --port=0 takes a free one") from None

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{ADDRESS}:{self.server_port}/"


def content_security_policy(page: str) -> str:
    """Allows the style and the script that stand in the page, by their hashes, and its questions; nothing else."""

    def sources(tag: str) -> str:
        found = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in found)
        return " ".join(f"'sha256-{digest}'" for digest in digests)

    return (
        f"default-src 'none'; script-src {sources('script')}; style-src {sources('style')}; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server
    server_version, sys_version = "explore", ""
    timeout = _SECONDS

    def do_GET(self) -> None:  # noqa: N802
        self._answer("GET")

    def do_POST(self) -> None:  # noqa: N802
        self._answer("POST")

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Requests are not logged: the page shows what went wrong."""

    def _answer(self, method: str) -> None:
        try:
            self._check_origin()
            path, _, query = self.path.partition("?")
            if (method, path) == ("GET", "/"):
                self._send(http.HTTPStatus.OK, "text/html; charset=utf-8", self.server.page)
                return
            answer = self._found(method, path, dict(urllib.parse.parse_qsl(query)))
            status = http.HTTPStatus.OK
        except _Refused as error:
            status, answer = error.status, {"error": str(error)}
        except UserError as error:
            status, answer = http.HTTPStatus.BAD_REQUEST, {"error": str(error)}
        self._send(status, "application/json", encoded(answer))

    def _found(self, method: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        explorer = self.server.explorer
        match method, path:
            case "GET", "/api/about":
                return explorer.about()
            case "GET", "/api/items":
                return {"items": explorer.items(query.get("q", ""))}
            case "GET", "/api/sample":
                number = query.get("number", "")
                if not re.fullmatch("[0-9]{1,9}", number):
                    raise _Refused(http.HTTPStatus.BAD_REQUEST, "/api/sample wants ?number=, a whole number")
                return explorer.sample(int(number))
            case "POST", "/api/rank":
                return explorer.rank(**_question(self._json()))
        raise _Refused(http.HTTPStatus.NOT_FOUND, "there is nothing here; the page is at /")

    def _check_origin(self) -> None:
        """Refuses who does not call this computer by a name of its own."""
        for header in ("Host", "Origin"):
            names = [_host_of(given) for given in self.headers.get_all(header, [])]
            if any(name not in _LOOPBACK for name in names) or (header == "Host" and len(names) != 1):
                raise _Refused(
                    http.HTTPStatus.FORBIDDEN, f"this page is for this computer alone; open {self.server.url}"
                )

    def _json(self) -> Any:
        """What a request holds."""
        if self.headers.get_content_type() != "application/json":
            raise _Refused(http.HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch("[0-9]{1,9}", length):
            raise _Refused(http.HTTPStatus.LENGTH_REQUIRED, "send Content-Length")
        if int(length) > _MOST_BYTES:
            raise _Refused(http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"at most {_MOST_BYTES} bytes are read")
        try:
            return json.loads(self.rfile.read(int(length)).decode())
        except (ValueError, RecursionError):
            raise _Refused(http.HTTPStatus.BAD_REQUEST, "not JSON") from None

    def _send(self, status: http.HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        headers = {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _host_of(given: str) -> str | None:
    """The name in a header: of a host with or without a port, or of an origin."""
    try:
        return urllib.parse.urlsplit(given if "://" in given else f"//{given}").hostname
    except ValueError:  # half of a bracket, say
        return None


def _question(value: Any) -> dict[str, Any]:
    """The arguments of `Explorer.rank` in what a page sent.

    Raises:
      UserError: it has another form.
    """
    form = 'send {"session": ["item id", ...], "k": 10, "exclude_session_items": true}, of which the last two may lack'
    if not isinstance(value, dict) or not {"session"} <= {*value} <= {"session", "k", "exclude_session_items"}:
        raise UserError(form)
    session, k, exclude = value["session"], value.get("k", 10), value.get("exclude_session_items")
    if not isinstance(session, list) or not all(isinstance(item, str) for item in session):
        raise UserError(form)
    if type(k) is not int or not (exclude is None or isinstance(exclude, bool)):
        raise UserError(form)
    return {"session": session, "k": k, "exclude_session_items": exclude}
