"""A real S3 server on this machine (moto's), in a thread of the tests' process, that can be told to fail."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Callable, Iterable
from threading import Thread
from typing import Any

FAILURES = {
    500: ("500 Internal Server Error", "InternalError", "We encountered an internal error."),
    403: ("403 Forbidden", "AccessDenied", "Access Denied"),
}


class ObjectStore:
    """The server and what was asked of it.

    Attributes:
        requests: (method, path, range) of every request.
        fails: (method, path) -> the status with which a request fails, or None.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self.requests: list[tuple[str, str, str | None]] = []
        self.fails: Callable[[str, str], int | None] = lambda method, path: None
        self._app: Any = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        Thread(target=self._server.serve_forever, daemon=True).start()

    def make_bucket(self, name: str) -> None:
        urllib.request.urlopen(urllib.request.Request(f"{self.url}/{name}", method="PUT")).close()

    def asked(self, method: str) -> list[str]:
        """Paths of the requests of one method."""
        return [path for each, path, _ in self.requests if each == method]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append((method, path, environ.get("HTTP_RANGE")))
        status = self.fails(method, path)
        if status is None:
            return self._app(environ, start_response)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        words, code, message = FAILURES[status]
        start_response(words, [("Content-Type", "application/xml")])
        return [f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>".encode()]
