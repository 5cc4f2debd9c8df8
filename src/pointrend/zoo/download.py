"""Published checkpoints, fetched once and verified each time they are used."""

from __future__ import annotations

import http.client
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from pointrend.zoo.cache import cached_path, largest, verify
from pointrend.zoo.manifest import Published
from pointrend.zoo.modelfile import ModelFileError

TIMEOUT = 30.0
"""Seconds without a byte after which a connection counts as broken."""
WAITS = (1.0, 2.0, 4.0, 8.0)
"""Seconds before each new attempt; it begins anew when there is more of the file than ever."""
CHUNK = 1 << 18

Progress = Callable[[str, int, int | None], None]
"""Called with the model's name, the bytes that are there, and all bytes (None: the server does not say)."""


class DownloadError(ModelFileError):
    """A checkpoint could not be fetched; one line that says how to do without."""


class _TooMuchError(Exception):
    """The server sends something else than the file."""


class _BrokenError(Exception):
    """The connection broke; a new attempt may do better."""


def fetch(published: Published, *, progress: Progress | None = None) -> Path:
    """The published file in the cache, downloaded if it is not there, and verified in any case.

    An interrupted download goes on where it stopped. Of several processes one downloads and the others wait for it.

    Args:
        progress: told how far a download is; None draws a bar on stderr if that is a terminal.

    Raises:
        DownloadError: it is neither there nor can it be fetched.
        ChecksumError: it is not the file that was published.
    """
    place = cached_path(published)
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            if not place.is_file():  # another process was quicker
                _download(published, place, progress)
                return place
    verify(place, published, place=place)
    return place


def _download(published: Published, place: Path, progress: Progress | None) -> None:
    part = place.with_name(f"{place.name}.part")
    if published.sha256 is None:
        # What an earlier process left could not be told from garbage, and would be pinned for ever.
        part.unlink(missing_ok=True)
    with _bar() if progress is None else _given(progress) as told:
        _complete(published, part, place, lambda done, total: told(published.name, done, total))
    verify(part, published, place=place)
    part.replace(place)


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    lock = FileLock(place.with_name(f"{place.name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        print(f"{place.name}: waiting for another process that is downloading it", file=sys.stderr)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _complete(published: Published, part: Path, place: Path, told: Callable[[int, int | None], None]) -> None:
    """Fetch what is missing of `part`, in as many attempts as are worth while."""
    waits = iter(WAITS)
    connected = False
    most = 0
    while True:
        try:
            _attempt(published.url, part, told, limit=largest(published))
            return
        except _TooMuchError as error:
            part.unlink(missing_ok=True)
            raise _failed(published, place, str(error)) from error
        except urllib.error.HTTPError as error:
            if error.code not in (408, 429) and error.code < 500:
                raise _failed(published, place, f"HTTP {error.code} {error.reason}") from error
            reason = f"HTTP {error.code} {error.reason}"
        except urllib.error.URLError as error:
            reason = str(getattr(error.reason, "strerror", None) or error.reason)
            if not connected:  # no network, and waiting for it would only look like work
                raise _failed(published, place, reason) from error
        except (_BrokenError, TimeoutError, http.client.HTTPException, ConnectionError) as error:
            reason = str(error) or type(error).__name__
        connected = True
        # More than ever: a server that lets every second attempt begin anew would be asked for ever.
        if _size(part) > most:
            most = _size(part)
            waits = iter(WAITS)
        wait = next(waits, None)
        if wait is None:
            raise _failed(published, place, f"{reason}; {_size(part)} bytes are kept, and the next run goes on there")
        time.sleep(wait)


def _attempt(url: str, part: Path, told: Callable[[int, int | None], None], *, limit: int) -> None:
    """One request: appends to `part`, or begins anew if the server cannot continue. Returns when it is complete."""
    start = _size(part)
    headers = {"User-Agent": f"pointrend/{_version()}", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    try:
        response = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416 or not start:
            raise
        error.close()
        if _total(error.headers.get("Content-Range")) == start:
            return  # it was complete already
        part.unlink()
        raise _BrokenError("the server could not continue the download") from error
    with response:
        total = _length(response, start)
        if response.status == 206 and _begin(response.headers.get("Content-Range")) != start:
            part.unlink()
            raise _BrokenError("the server continued at another place")
        done = start if response.status == 206 else 0
        _check_length(total or 0, limit)
        with part.open("ab" if response.status == 206 else "wb") as file:
            for chunk in _chunks(response):
                done += len(chunk)
                _check_length(done, limit)
                file.write(chunk)
                told(done, total)
    if total is not None and done < total:
        raise _BrokenError(f"the connection ended after {done} of {total} bytes")


def _check_length(length: int, limit: int) -> None:
    if length > limit:
        raise _TooMuchError(f"the server sends {length} bytes or more, the published file has at most {limit}")


def _chunks(response: Any) -> Iterator[bytes]:
    while True:
        # Only what the network does wrong is worth another attempt; a full disk is not.
        try:
            chunk = response.read(CHUNK)
        except http.client.IncompleteRead as error:
            if error.partial:
                yield error.partial
            raise _BrokenError("the connection ended early") from error
        except OSError as error:
            raise _BrokenError(str(error) or type(error).__name__) from error
        if not chunk:
            return
        yield chunk


def _length(response: Any, start: int) -> int | None:
    """Bytes of the whole file, if the server says."""
    if response.status == 206:
        return _total(response.headers.get("Content-Range"))
    value = response.headers.get("Content-Length") or ""
    return int(value) if value.isdecimal() else None


def _begin(content_range: str | None) -> int | None:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match[1]) if match else None


def _total(content_range: str | None) -> int | None:
    match = re.search(r"/(\d+)$", content_range or "")
    return int(match[1]) if match else None


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0


def _version() -> str:
    from pointrend import __version__

    return __version__


def _failed(published: Published, place: Path, reason: str) -> DownloadError:
    return DownloadError(
        f"{published.name} is not in the cache and cannot be downloaded ({reason}): "
        f"fetch {published.url} elsewhere and put it at {place}"
    )


@contextmanager
def _given(progress: Progress) -> Iterator[Progress]:
    yield progress


@contextmanager
def _bar() -> Iterator[Progress]:
    """A bar on stderr where that is a terminal, removed at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.progress import Progress as Bars

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Bars(
        *columns, TimeRemainingColumn(), console=console, transient=True, disable=not console.is_terminal
    ) as bars:
        task = bars.add_task("Downloading", total=None)

        def update(name: str, done: int, total: int | None) -> None:
            bars.update(task, description=f"Downloading {name}", completed=done, total=total)

        yield update
