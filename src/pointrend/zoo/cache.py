"""Where downloaded checkpoints lie, and that they are what they should be."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from pointrend.files import write_atomically
from pointrend.zoo.manifest import Published
from pointrend.zoo.modelfile import ModelFileError


class ChecksumError(ModelFileError):
    """A file is not the published one."""


def cache_folder() -> Path:
    """`POINTREND_HOME`, or else `pointrend` in `XDG_CACHE_HOME` or in `~/.cache`. It need not exist."""
    if home := os.environ.get("POINTREND_HOME"):
        return Path(home).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "pointrend"


def cached_path(published: Published) -> Path:
    """Where the checkpoint lies once it was downloaded, or put there by hand; under its published name."""
    return cache_folder() / published.file


def verify(file: Path, published: Published, *, place: Path) -> None:
    """Compare a file with what is known of the published one; it is hashed from beginning to end, and not parsed.

    Where the publishers state no SHA-256, that of the first file is printed and pinned in `<place>.sha256`, and later
    ones must have the same. A file that fails is moved to `<place>.bad`.

    Args:
        file: what is looked at.
        place: where it lies, or is going to, in the cache.

    Raises:
        ChecksumError: it differs; one line with both hashes, or both sizes.
    """
    pin = place.with_name(f"{place.name}.sha256")
    expected = published.sha256 or _pinned(pin)
    if expected is None:
        _check_size(file, published, place=place)
    with file.open("rb") as opened:
        found = hashlib.file_digest(opened, "sha256").hexdigest()
    if expected is None:
        write_atomically(pin, f"{found}  {place.name}\n".encode())
        print(
            f"{place.name}: its publishers state no SHA-256; this file's is {found}, which is now pinned in {pin}",
            file=sys.stderr,
        )
    elif not found.startswith(expected):
        reason = f"its SHA-256 is {found}, but should begin with {expected}"
        if published.sha256 is None:
            reason += f", which {pin.name} pinned when it was first loaded (delete that to pin another)"
        raise _refused(file, place, reason)


def _pinned(pin: Path) -> str | None:
    """The hash in a file as `sha256sum` writes them; None without such a file."""
    if not pin.is_file():
        return None
    words = pin.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words[0]) != 64 or not set(words[0]) <= set("0123456789abcdef"):
        raise ChecksumError(f"{pin}: expected a SHA-256 in hexadecimal digits; delete this file to pin a new one")
    return words[0]


def _check_size(file: Path, published: Published, *, place: Path) -> None:
    size = file.stat().st_size
    if published.size_bytes is not None and size != published.size_bytes:
        raise _refused(file, place, f"it has {size} bytes, the published file {published.size_bytes}")
    # Names and framing add a little; a pickle of an old protocol writes bytes as text, up to twice as long.
    low, high = published.weight_bytes, 2 * published.weight_bytes + 2**20
    if not low <= size <= high:
        raise _refused(file, place, f"it has {size} bytes, but should have {low} or a little more")


def _refused(file: Path, place: Path, reason: str) -> ChecksumError:
    bad = place.with_name(f"{place.name}.bad")
    file.replace(bad)
    return ChecksumError(
        f"{place}: not the published file: {reason}; it is now {bad.name}; run again to download it anew"
    )
