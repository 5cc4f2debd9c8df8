"""Find downloaded checkpoints, and check that they are the published ones."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from pointrend.errors import printable
from pointrend.files import write_atomically
from pointrend.zoo.manifest import Published
from pointrend.zoo.modelfile import ModelFileError


class ChecksumError(ModelFileError):
    """A file is not the published one."""


def cache_folder() -> Path:
    """Return `POINTREND_HOME`, or else `pointrend` in `XDG_CACHE_HOME` or in `~/.cache`. It need not exist.

    Raises:
        ModelFileError: POINTREND_HOME is a file, or begins with `~` and the name of an unknown user.
    """
    if home := os.environ.get("POINTREND_HOME"):
        try:
            folder = Path(home).expanduser()
        except RuntimeError as error:
            raise ModelFileError(f"POINTREND_HOME is {printable(home)}, and there is no such home folder") from error
        existing = next((parent for parent in (folder, *folder.parents) if parent.exists()), None)
        if existing is not None and not existing.is_dir():
            raise ModelFileError(f"POINTREND_HOME is {printable(home)}: {existing} is a file, and must be a folder")
        return folder
    base = os.environ.get("XDG_CACHE_HOME", "")
    if Path(base).is_absolute():  # the XDG specification says to ignore relative paths
        return Path(base) / "pointrend"
    try:
        return Path.home() / ".cache" / "pointrend"
    except RuntimeError as error:
        raise ModelFileError("there is no home folder; set POINTREND_HOME to a folder for downloads") from error


def cached_path(published: Published) -> Path:
    """Return the checkpoint's path in the cache folder."""
    return cache_folder() / published.file


def verify(file: Path, published: Published, *, path: Path) -> None:
    """Compare the SHA-256 of a file with that of the published one; the file is not parsed.

    Without a published or pinned hash (see `pin`) the size is compared. A file that differs is moved to `<path>.bad`.

    Args:
        file: the file to verify.
        path: its path in the cache, where it may not be yet.

    Raises:
        ChecksumError: the file differs; one line with both hashes, or both sizes.
    """
    expected, size, least = published.sha256 or _pinned(path), file.stat().st_size, published.weight_bytes
    reason = None
    if expected is not None:
        found = _hash(file)
        if not found.startswith(expected):
            reason = f"its SHA-256 is {found}, but should begin with {expected}"
            if published.sha256 is None:
                reason += f", which {_pin(path).name} pinned when it was first loaded (delete that to pin another)"
    elif published.size_bytes is not None and size != published.size_bytes:
        reason = f"it has {size} bytes, the published file {published.size_bytes}"
    elif not least <= size <= max_size(published):
        reason = f"it has {size} bytes, but should have {least} or a little more"
    if reason:
        raise ChecksumError(f"{path}: not the published file: {reason}; {set_aside(file, path)}")


def has_checksum(published: Published) -> bool:
    """Return whether the SHA-256 of the cached file is published or pinned."""
    return published.sha256 is not None or _pinned(cached_path(published)) is not None


def pin(published: Published) -> None:
    """Print the SHA-256 of the cached file and keep it in `<path>.sha256`: later files must have the same.

    A hash that is published or pinned already stays. If the folder cannot be written, a line on stderr says so.
    """
    if has_checksum(published):
        return
    path = cached_path(published)
    found = _hash(path)
    try:
        write_atomically(_pin(path), f"{found}  {path.name}\n".encode())
        what = f"which is now pinned in {_pin(path)}"
    except OSError as error:
        what = f"which could not be pinned in {_pin(path)} ({error.strerror})"
    print(f"{path.name}: its publishers state no SHA-256; this file's is {found}, {what}", file=sys.stderr)


def set_aside(file: Path, path: Path) -> str:
    """Move a file to `<path>.bad`, and return the end of the error message."""
    bad = path.with_name(f"{path.name}.bad")
    try:
        file.replace(bad)
    except OSError as error:
        return f"remove it to download it anew (it cannot be moved: {error.strerror})"
    return f"it is now {bad.name}; run again to download it anew"


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _pin(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _pinned(path: Path) -> str | None:
    """Return the hash in the file beside the checkpoint, in the format of `sha256sum`; None without that file."""
    pin = _pin(path)
    if not pin.is_file():
        return None
    words = pin.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words[0]) != 64 or not set(words[0]) <= set("0123456789abcdef"):
        raise ChecksumError(f"{pin}: expected a SHA-256 in hexadecimal digits; delete this file to pin a new one")
    return words[0]


def max_size(published: Published) -> int:
    """Return the maximum number of bytes of the published file."""
    # Names and framing add a little; a pickle of an old protocol writes bytes as text, up to twice as long.
    return 2 * published.weight_bytes + 2**20
