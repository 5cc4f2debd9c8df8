"""Where downloaded checkpoints lie, and that they are what they should be."""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path

from pointrend.files import write_atomically
from pointrend.zoo.manifest import Published
from pointrend.zoo.modelfile import ModelFileError, shown


class ChecksumError(ModelFileError):
    """A file is not the published one."""


def cache_folder() -> Path:
    """`POINTREND_HOME`, or else `pointrend` in `XDG_CACHE_HOME` or in `~/.cache`. It need not exist.

    Raises:
        ModelFileError: it cannot, for POINTREND_HOME is a file or begins with the name of no user.
    """
    if home := os.environ.get("POINTREND_HOME"):
        try:
            folder = Path(home).expanduser()
        except RuntimeError as error:
            raise ModelFileError(f"POINTREND_HOME is {shown(home)}, and there is no such home folder") from error
        existing = next((place for place in (folder, *folder.parents) if place.exists()), None)
        if existing is not None and not existing.is_dir():
            raise ModelFileError(f"POINTREND_HOME is {shown(home)}: {existing} is a file, and must be a folder")
        return folder
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored.
    return (Path(base) if Path(base).is_absolute() else _home() / ".cache") / "pointrend"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError as error:
        raise ModelFileError("there is no home folder; set POINTREND_HOME to a folder for downloads") from error


def cached_path(published: Published) -> Path:
    """Where the checkpoint lies once it was downloaded, or put there by hand; under its published name."""
    return cache_folder() / published.file


def verify(file: Path, published: Published, *, place: Path) -> None:
    """Compare a file with what is known of the published one; it is hashed from beginning to end, and not parsed.

    Where the publishers state no SHA-256, and none was pinned yet (see `pin`), its size must do. A file that fails is
    moved to `<place>.bad`.

    Args:
        file: what is looked at.
        place: where it lies, or is going to, in the cache.

    Raises:
        ChecksumError: it differs; one line with both hashes, or both sizes.
    """
    expected = published.sha256 or _pinned(place)
    if expected is None:
        _check_size(file, published, place=place)
        return
    found = _hash(file)
    if not found.startswith(expected):
        reason = f"its SHA-256 is {found}, but should begin with {expected}"
        if published.sha256 is None:
            reason += f", which {_pin(place).name} pinned when it was first loaded (delete that to pin another)"
        raise _refused(file, place, reason)


def is_known(published: Published) -> bool:
    """Whether the SHA-256 of the cached file is stated by its publishers, or was pinned."""
    return published.sha256 is not None or _pinned(cached_path(published)) is not None


def pin(published: Published) -> None:
    """Print the SHA-256 of the cached file and keep it in `<place>.sha256`: later ones must have the same.

    Does nothing if it is known. A folder that cannot be written is told of on stderr, and no error.
    """
    if is_known(published):
        return
    place = cached_path(published)
    found = _hash(place)
    try:
        write_atomically(_pin(place), f"{found}  {place.name}\n".encode())
        what = f"which is now pinned in {_pin(place)}"
    except OSError as error:
        what = f"which could not be pinned in {_pin(place)} ({error.strerror})"
    print(f"{place.name}: its publishers state no SHA-256; this file's is {found}, {what}", file=sys.stderr)


def set_aside(file: Path, place: Path) -> str:
    """Move a file to `<place>.bad`, and say so."""
    bad = place.with_name(f"{place.name}.bad")
    try:
        file.replace(bad)
    except OSError as error:
        return f"remove it to download it anew (it cannot be moved: {error.strerror})"
    return f"it is now {bad.name}; run again to download it anew"


def _hash(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _pin(place: Path) -> Path:
    return place.with_name(f"{place.name}.sha256")


def _pinned(place: Path) -> str | None:
    """The hash in a file as `sha256sum` writes them; None without such a file."""
    pin = _pin(place)
    if not pin.is_file():
        return None
    words = pin.read_text(encoding="utf-8", errors="replace").split()
    if not words or len(words[0]) != 64 or not set(words[0]) <= set("0123456789abcdef"):
        raise ChecksumError(f"{pin}: expected a SHA-256 in hexadecimal digits; delete this file to pin a new one")
    return words[0]


def largest(published: Published) -> int:
    """Bytes that the file has at most."""
    # Names and framing add a little; a pickle of an old protocol writes bytes as text, up to twice as long.
    return 2 * published.weight_bytes + 2**20


def _check_size(file: Path, published: Published, *, place: Path) -> None:
    size = file.stat().st_size
    if published.size_bytes is not None and size != published.size_bytes:
        raise _refused(file, place, f"it has {size} bytes, the published file {published.size_bytes}")
    low = published.weight_bytes
    if not low <= size <= largest(published):
        raise _refused(file, place, f"it has {size} bytes, but should have {low} or a little more")


def _refused(file: Path, place: Path, reason: str) -> ChecksumError:
    return ChecksumError(f"{place}: not the published file: {reason}; {set_aside(file, place)}")
