"""Fetch published checkpoints once, and verify them each time they are used."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

from filelock import FileLock, Timeout

from pointrend.errors import printable
from pointrend.zoo.cache import cached_path, max_size, verify
from pointrend.zoo.manifest import Published
from pointrend.zoo.modelfile import ModelFileError

TIMEOUT: float | tuple[float, float] = (10.0, 30.0)
"""Seconds to wait for a connection, and for its next bytes."""
RETRIES = 4
"""Attempts after the first one; pooch waits 1, 2, 3 and 4 seconds before them."""
CHUNK = 1 << 18
"""Bytes between two reports of progress."""

Progress = Callable[[str, int, int | None], None]
"""Called with the model's name, the bytes received so far, and all bytes (None if the server does not say)."""


class DownloadError(ModelFileError):
    """A checkpoint could not be downloaded; one line that says where to put a copy."""


class _FinalError(Exception):
    """A new attempt would fail in the same way; pooch, which repeats after a ValueError, lets it pass."""


def fetch(published: Published, *, progress: Progress | None = None) -> Path:
    """Return the published file in the cache, downloaded if it is not there, and verified in any case.

    Of several processes one downloads, and the others wait for it.

    Args:
        progress: called during a download; None draws a bar on stderr if that is a terminal.

    Raises:
        DownloadError: the file is not in the cache and cannot be fetched.
        ChecksumError: it is not the file that was published.
    """
    path = cached_path(published)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path):
            if not path.is_file():  # another process was quicker
                _download(published, path, progress)
                return path
    verify(path, published, path=path)
    return path


def _locked(path: Path) -> AbstractContextManager[object]:
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        print(f"{path.name}: waiting for another process that is downloading it", file=sys.stderr)
        return lock.acquire()


def _download(published: Published, path: Path, progress: Progress | None) -> None:
    """Fetch the file into a folder beside its path, verify it there, and move it to its path."""
    import pooch
    from requests import RequestException

    folder = path.with_name(f"{path.name}.incomplete")
    shutil.rmtree(folder, ignore_errors=True)  # left by a process that was killed
    # Publishers state the beginning of a hash at most, which pooch cannot compare; `verify` does.
    files = pooch.create(
        folder, base_url="", registry={path.name: None}, urls={path.name: published.url}, retry_if_failed=RETRIES
    )
    try:
        try:
            with _quiet(pooch.get_logger()), _drawn() if progress is None else nullcontext(progress) as report:
                file = Path(files.fetch(path.name, downloader=_Downloader(published, report)))
        except (_FinalError, RequestException, ValueError) as error:
            raise DownloadError(
                f"{published.name} is not in the cache and cannot be downloaded ({_reason(error)}): "
                f"fetch {published.url} elsewhere and put it at {path}"
            ) from error
        verify(file, published, path=path)
        file.replace(path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Downloader:
    """Makes one attempt to download, for pooch; errors that a new attempt cannot mend are final."""

    def __init__(self, published: Published, report: Progress) -> None:
        self._published = published
        self._report = report
        self._connected = False

    def __call__(self, url: str, output_file: str, pooch: object) -> None:
        from pooch import HTTPDownloader
        from requests import ConnectionError, HTTPError

        from pointrend import __version__

        file = Path(output_file)
        file.unlink()  # pooch created it readable by its owner alone; the next one has the usual permissions
        bar = _ProgressBar(self._published, file, self._report)
        headers = {"User-Agent": f"pointrend/{__version__}", "Accept-Encoding": "identity"}
        try:
            HTTPDownloader(progressbar=bar, chunk_size=CHUNK, headers=headers, timeout=TIMEOUT)(url, output_file, pooch)
        except HTTPError as error:
            self._connected = True
            status = error.response.status_code if error.response is not None else 500
            if status not in (408, 429) and status < 500:
                raise _FinalError(_reason(error)) from error
            raise
        except ConnectionError as error:
            self._connected = self._connected or bar.connected
            if not self._connected:  # there is no network to wait for
                raise _FinalError(_reason(error)) from error
            raise


class _ProgressBar:
    """Reports the size of the file, and stops the download when it exceeds the maximum."""

    def __init__(self, published: Published, file: Path, report: Progress) -> None:
        self.connected = False
        self._published = published
        self._file = file
        self._report = report
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes of the whole file, or 0 if the server does not say."""
        return self._total

    @total.setter
    def total(self, total: int) -> None:
        self.connected = True
        self._total = total
        self._check(total)

    def update(self, _: int) -> None:
        done = self._file.stat().st_size
        self._check(done)
        self._report(self._published.name, done, self.total or None)

    def reset(self) -> None:
        """Do nothing, because the size of the file tells how far the download is."""

    def close(self) -> None:
        """Do nothing, because the bar on the screen belongs to the caller."""

    def _check(self, size: int) -> None:
        if size > (limit := max_size(self._published)):
            raise _FinalError(f"the server sends {size} bytes or more, the published file has at most {limit}")


def _reason(error: BaseException) -> str:
    """Return the message of the innermost error; those around it repeat the address."""
    response = getattr(error, "response", None)
    if response is not None:
        return printable(f"HTTP {response.status_code} {response.reason}", length=200)
    while (cause := error.__cause__ or error.__context__) is not None and not isinstance(error, _FinalError):
        error = cause
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return printable(" ".join(str(text).split()), length=200)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Keep pooch from writing each step to stderr."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextmanager
def _drawn() -> Iterator[Progress]:
    """Draw a bar on stderr where that is a terminal, and remove it at the end."""
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
