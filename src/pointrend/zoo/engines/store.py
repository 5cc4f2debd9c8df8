"""Keep converted encoders in the cache folder, whole or not at all."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from pointrend.zoo.cache import cache_folder
from pointrend.zoo.model import Model


def conversion_folder(engine: str, model: Model) -> Path:
    """Return the folder for this model, which may not exist, named by everything that a conversion depends on."""
    digest = hashlib.sha256(model.spec.model_dump_json(include={"task", "num_logits", "architecture"}).encode())
    versions = {name: metadata.version(name) for name in (engine, "torch", "timm", "pointrend")}
    digest.update(json.dumps(versions, sort_keys=True).encode())
    for name, tensor in sorted(model.network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    return cache_folder() / "engines" / f"{engine}-{digest.hexdigest()[:20]}"


def write_folder(folder: Path, write: Callable[[Path], None], *, replace: bool = False) -> None:
    """Fill a folder by `write`, while another process may do the same; `replace` removes an old one."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    try:
        write(temporary)
        if replace and folder.is_dir():
            folder.rename(temporary / "old")
        try:
            temporary.rename(folder)
        except OSError:
            if not folder.is_dir():  # otherwise the other process was first
                raise
        shutil.rmtree(folder / "old", ignore_errors=True)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
