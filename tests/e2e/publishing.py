"""A local server in the place of those that models are published at."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pointrend.zoo.manifest import PUBLISHED

Publish = Callable[[str, Callable[[Path], None]], Path]
"""From a model's name, and what writes its file, to the file that the server has."""


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def local_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Publish]:
    """Makes a local server the place a model is published at; its hash is stated if the real one's is."""
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.setenv("POINTREND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()

    def put(name: str, write: Callable[[Path], None]) -> Path:
        real = PUBLISHED[name]
        file = folder / real.file
        write(file)
        with file.open("rb") as opened:
            sha256 = hashlib.file_digest(opened, "sha256").hexdigest()[:8]
        changes = {
            "url": f"http://127.0.0.1:{server.server_port}/{file.name}",
            "sha256": real.sha256 and sha256,
        }
        monkeypatch.setitem(PUBLISHED, name, real.model_copy(update=changes))
        return file

    yield put
    server.shutdown()
    server.server_close()
    thread.join()
