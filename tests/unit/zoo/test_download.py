"""Downloads from a server that behaves well, badly, or not at all. Nothing leaves this machine."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from pointrend.zoo import download
from pointrend.zoo.cache import ChecksumError, cache_folder, cached_path, pin
from pointrend.zoo.download import DownloadError, fetch
from pointrend.zoo.manifest import PUBLISHED, Published
from pointrend.zoo.modelfile import ModelFileError

CONTENT = bytes(i * i % 251 for i in range(300_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@dataclass
class Server:
    """What it does can be changed between and during requests."""

    content: bytes = CONTENT
    status: list[int] = field(default_factory=list)
    """Instead of an answer, first."""
    cut: list[int] = field(default_factory=list)
    """Of each answer only so many bytes are sent, although all are announced."""
    announce: bool = True
    requests: list[str | None] = field(default_factory=list)
    """The Range header of each request."""
    gate: threading.Event | None = None
    url: str = ""
    waits: list[float] = field(default_factory=list)
    """Seconds that the client waited before each new attempt, without waiting."""


class Handler(BaseHTTPRequestHandler):
    server_version = "Test"
    state: Server

    def do_GET(self) -> None:
        state = self.state
        state.requests.append(self.headers.get("Range"))
        if state.gate is not None:
            assert state.gate.wait(30)
        if state.status and (status := state.status.pop(0)) != 200:
            self.send_error(status)
            return
        self.send_response(200)
        body = state.content
        if state.announce:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: state.cut.pop(0)] if state.cut else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    state = Server()
    handler = type("BoundHandler", (Handler,), {"state": state})
    http = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    state.url = f"http://127.0.0.1:{http.server_port}/folder/model-abc.pth"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("POINTREND_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download, "RETRIES", 2)
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=state.waits.append))
    yield state
    http.shutdown()
    http.server_close()
    thread.join()


def published(server: Server, *, sha256: str | None = SHA256[:8]) -> Published:
    known = PUBLISHED["mmseg-r50-cityscapes"]
    size = len(server.content) - 100
    return known.model_copy(update={"url": server.url, "sha256": sha256, "weight_bytes": size})


def files() -> list[str]:
    """What the cache holds, but locks."""
    return sorted(path.name for path in cache_folder().iterdir() if path.suffix != ".lock")


def one_line(error: pytest.ExceptionInfo[ValueError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    return message


def test_fetched_once_and_reported(server: Server) -> None:
    told: list[tuple[str, int, int | None]] = []
    path = fetch(published(server), progress=lambda *args: told.append(args))
    assert path == cached_path(published(server))
    assert path.read_bytes() == CONTENT
    assert told[-1] == ("mmseg-r50-cityscapes", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    assert fetch(published(server)) == path
    assert server.requests == [None]
    assert files() == ["model-abc.pth"]


def test_nothing_is_drawn_where_there_is_no_terminal(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(published(server))
    assert capfd.readouterr() == ("", "")


def test_server_that_does_not_say_how_much(server: Server) -> None:
    server.announce = False
    told: list[int | None] = []
    assert fetch(published(server), progress=lambda name, done, total: told.append(total)).read_bytes() == CONTENT
    assert set(told) == {None}


def test_truncated_answers_are_not_kept(server: Server) -> None:
    server.cut = [1000, 70_000]
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.requests == [None] * 3
    assert files() == ["model-abc.pth"]


def test_interrupted_download_leaves_nothing(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stop(Exception):
        pass

    def stop(name: str, done: int, total: int | None) -> None:
        assert 0 < done < len(CONTENT)
        raise Stop

    monkeypatch.setattr(download, "CHUNK", 10_000)
    with pytest.raises(Stop):  # as Ctrl-C would
        fetch(published(server), progress=stop)
    assert files() == []
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.requests == [None, None]


def test_what_a_killed_process_left_is_not_used(server: Server) -> None:
    left = cache_folder() / "model-abc.pth.incomplete"
    left.mkdir(parents=True)
    (left / "model-abc.pth").write_bytes(bytes(1000))
    (left / "tmpabc").write_bytes(bytes(1000))
    assert fetch(published(server)).read_bytes() == CONTENT
    assert files() == ["model-abc.pth"]


def test_file_may_be_read_by_those_who_may_read_new_files(server: Server, tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.write_bytes(b"")
    assert fetch(published(server)).stat().st_mode == usual.stat().st_mode


def test_wrong_hash(server: Server) -> None:
    server.content = CONTENT[:-1] + b"?"
    with pytest.raises(ChecksumError) as error:
        fetch(published(server))
    message = one_line(error)
    assert "model-abc.pth" in message
    assert SHA256[:8] in message
    assert hashlib.sha256(server.content).hexdigest() in message
    assert files() == ["model-abc.pth.bad"]
    server.content = CONTENT
    assert fetch(published(server)).read_bytes() == CONTENT
    assert server.requests == [None, None]


def test_cached_file_is_verified_each_time(server: Server) -> None:
    path = fetch(published(server))
    path.write_bytes(b"not what was downloaded")
    with pytest.raises(ChecksumError, match=r"model-abc\.pth: .*moved|now model-abc\.pth\.bad"):
        fetch(published(server))
    assert not path.exists()
    assert fetch(published(server)).read_bytes() == CONTENT


def test_missing_on_the_server(server: Server) -> None:
    server.status = [404]
    with pytest.raises(DownloadError, match="HTTP 404 Not Found") as error:
        fetch(published(server))
    assert server.url in one_line(error)
    assert str(cached_path(published(server))) in one_line(error)
    assert len(server.requests) == 1


def test_server_that_recovers(server: Server) -> None:
    server.status = [503, 429]
    assert fetch(published(server)).read_bytes() == CONTENT
    assert len(server.requests) == 3


def test_server_that_does_not_recover(server: Server) -> None:
    server.status = [500] * 9
    with pytest.raises(DownloadError, match="HTTP 500"):
        fetch(published(server))
    assert len(server.requests) == 3  # one, and one after each wait
    assert len(server.waits) == 2


def test_server_that_sends_nothing(server: Server) -> None:
    server.cut = [1000] * 9
    with pytest.raises(DownloadError, match=r"1000 bytes read, 299000 more expected") as error:
        fetch(published(server))
    one_line(error)
    assert files() == []


def test_silent_server_times_out(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setattr(download, "RETRIES", 0)
    server.gate = threading.Event()
    try:
        with pytest.raises(DownloadError, match="timed out"):
            fetch(published(server))
    finally:
        server.gate.set()


def test_offline(server: Server) -> None:
    """Says at once what to fetch and where to put it; a file that is put there is used."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        server.url = f"http://127.0.0.1:{closed.getsockname()[1]}/folder/model-abc.pth"
        with pytest.raises(DownloadError) as error:
            fetch(published(server))
    found = re.search(r"fetch (\S+) elsewhere and put it at (.+)$", one_line(error))
    assert found
    assert found[1] == server.url
    assert "Connection refused" in str(error.value)
    assert server.waits == []
    Path(found[2]).write_bytes(CONTENT)
    assert fetch(published(server)).read_bytes() == CONTENT


def test_full_disk_is_no_reason_to_try_again(server: Server) -> None:
    def full(name: str, done: int, total: int | None) -> None:
        raise OSError(28, "No space left on device", "model-abc.pth")

    with pytest.raises(OSError, match="No space left"):
        fetch(published(server), progress=full)
    assert len(server.requests) == 1


class TestUnknownHash:
    """detectron2's publishers state none: the first file's is pinned."""

    def test_printed_and_pinned(self, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
        path = fetch(published(server, sha256=None))
        assert files() == ["model-abc.pth"]  # not before it was read
        pin(published(server, sha256=None))
        said = capsys.readouterr().err
        assert SHA256 in said
        assert "model-abc.pth.sha256" in said
        assert (cache_folder() / "model-abc.pth.sha256").read_text().split() == [SHA256, "model-abc.pth"]
        fetch(published(server, sha256=None))
        assert capsys.readouterr().err == ""
        path.write_bytes(CONTENT[:-1] + b"?")
        with pytest.raises(ChecksumError, match=rf"begin with {SHA256}.*model-abc\.pth\.sha256") as error:
            fetch(published(server, sha256=None))
        one_line(error)

    def test_download_must_be_the_pinned_one(self, server: Server) -> None:
        path = fetch(published(server, sha256=None))
        pin(published(server, sha256=None))
        path.unlink()
        server.content = CONTENT[:-1] + b"?"
        with pytest.raises(ChecksumError, match=SHA256):
            fetch(published(server, sha256=None))
        assert files() == ["model-abc.pth.bad", "model-abc.pth.sha256"]

    def test_wrong_size_is_not_kept(self, server: Server) -> None:
        entry = published(server, sha256=None).model_copy(update={"weight_bytes": 100_000})
        server.content = b"<html>log in to this network</html>"
        with pytest.raises(ChecksumError, match="it has 35 bytes"):
            fetch(entry)
        assert files() == ["model-abc.pth.bad"]

    def test_folder_that_cannot_be_written(
        self, server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(path: Path, content: bytes) -> None:
            raise OSError(30, "Read-only file system")

        monkeypatch.setattr("pointrend.zoo.cache.write_atomically", fail)
        fetch(published(server, sha256=None))
        pin(published(server, sha256=None))
        assert "could not be pinned" in capsys.readouterr().err

    def test_stated_size(self, server: Server) -> None:
        entry = published(server, sha256=None).model_copy(update={"size_bytes": len(CONTENT) + 1})
        with pytest.raises(ChecksumError, match="300000 bytes, the published file 300001"):
            fetch(entry)

    def test_damaged_pin(self, server: Server) -> None:
        cache_folder().mkdir(parents=True)
        (cache_folder() / "model-abc.pth.sha256").write_text("cf6ac1\n")
        with pytest.raises(ChecksumError, match=r"model-abc\.pth\.sha256: expected a SHA-256"):
            fetch(published(server, sha256=None))


def test_two_at_once_download_once(server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    server.gate = threading.Event()
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(fetch(published(server)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(server.requests) == 1 and "waiting for another process" in capfd.readouterr().err)
    server.gate.set()
    for thread in threads:
        thread.join(30)
    assert [path.read_bytes() for path in found] == [CONTENT] * 2
    assert server.requests == [None]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        threading.Event().wait(0.01)
    pytest.fail("it did not happen within 30 seconds")


@pytest.mark.parametrize(
    ("home", "xdg", "expected"),
    [
        ("/a/b", "/c", "/a/b"),
        ("", "/c", "/c/pointrend"),
        (None, "/c", "/c/pointrend"),
        (None, "relative", "{home}/.cache/pointrend"),
        (None, None, "{home}/.cache/pointrend"),
        ("~/models", None, "{home}/models"),
    ],
)
def test_cache_folder(home: str | None, xdg: str | None, expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("POINTREND_HOME", home), ("XDG_CACHE_HOME", xdg)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    assert cache_folder() == Path(expected.format(home=Path.home()))


@pytest.mark.parametrize("announce", [True, False])
def test_body_without_end(server: Server, announce: bool) -> None:
    server.announce = announce
    server.content = CONTENT * 5
    entry = published(server).model_copy(update={"weight_bytes": 1000})
    with pytest.raises(DownloadError, match="the published file has at most 1050576") as error:
        fetch(entry)
    one_line(error)
    assert files() == []


def test_home_that_cannot_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POINTREND_HOME", "~nosuchuser/x")
    with pytest.raises(ModelFileError, match="POINTREND_HOME is ~nosuchuser/x, and there is no such") as error:
        cache_folder()
    one_line(error)
    (tmp_path / "file").write_text("x")
    for home in ("file", "file/below"):
        monkeypatch.setenv("POINTREND_HOME", str(tmp_path / home))
        with pytest.raises(ModelFileError, match="is a file, and must be a folder") as error:
            cache_folder()
        one_line(error)
