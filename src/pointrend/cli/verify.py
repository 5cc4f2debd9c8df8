"""`pointrend verify`: comparison of a checkpoint's results to those of its authors' code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli import options
from pointrend.cli.convert import published_model
from pointrend.cli.errors import FAILED, WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from pointrend.references import Check
    from pointrend.zoo import Model
    from pointrend.zoo.manifest import Published


def verify(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pkl or .safetensors file, published or converted.")
    ],
    model: Annotated[str, typer.Option(help="The published model's name, see `pointrend models`.")],
    reference: Annotated[
        Path, typer.Option(metavar="FILE.npz", help="Image size, seed and tensors computed by another implementation.")
    ],
    as_json: options.Json = False,
) -> None:
    """Compare a checkpoint's numbers to a reference, tensor by tensor.

    Prints the maximum difference of each tensor, relative to the reference's standard deviation (probabilities and
    scores: absolute). In the final logits or masks, 0.5 % of the pixels may differ by more than the tolerance, because
    points may be equally uncertain; 5 % of the proposals and detections may be unmatched. The exit code is 1 if a
    tensor differs by more.
    """
    from rich.console import Console

    from pointrend.references import ReferenceFileError
    from pointrend.verify import read_reference
    from pointrend.verify import verify as compare

    with one_line_errors(code=WRONG_USAGE):
        published = published_model(model)
    expected = read_reference(reference)
    with Console(stderr=True).status("Computing ..."):
        try:
            checks = compare(_load(checkpoint, published), expected)
        except ReferenceFileError as error:
            raise ReferenceFileError(f"{reference}: {error}") from error
    if as_json:
        print(_json(checks, checkpoint, model, reference))
    else:
        for check in checks:
            print(_line(check))
    if not all(check.ok for check in checks):
        raise SystemExit(FAILED)


def _load(path: Path, published: Published) -> Model:
    """Read a published checkpoint, or a file written by `pointrend convert`."""
    from pointrend.errors import printable
    from pointrend.zoo.convert import read_published
    from pointrend.zoo.load import is_foreign
    from pointrend.zoo.modelfile import ModelFileError, read_model

    if is_foreign(path):
        return read_published(path, published)
    loaded = read_model(path)
    if loaded.spec.architecture != published.spec.architecture or loaded.spec.num_logits != published.spec.num_logits:
        name = printable(loaded.spec.name)
        raise ModelFileError(f"{path}: is a {name}, whose architecture differs from {published.name}")
    return loaded


def _line(check: Check) -> str:
    pixels = f", {100 * check.ratio:.2f} % {check.counted}" if check.allowed_ratio or not check.ok else ""
    verdict = "ok" if check.ok else "FAIL"
    return f"{check.name:17} {check.difference:.2e} (tolerance {check.tolerance:.0e}{pixels}) {verdict}"


def _json(checks: list[Check], checkpoint: Path, model: str, reference: Path) -> str:
    from dataclasses import asdict
    from math import isfinite

    tensors = [{**asdict(check), "ok": check.ok} for check in checks]
    for tensor in tensors:
        if not isfinite(tensor["difference"]):  # not valid in JSON
            tensor["difference"] = None
    ok = all(check.ok for check in checks)
    content = {"checkpoint": str(checkpoint), "model": model, "reference": str(reference), "ok": ok, "tensors": tensors}
    return json.dumps(content, indent=1)
