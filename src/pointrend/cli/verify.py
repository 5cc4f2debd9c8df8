"""`pointrend verify`: whether a checkpoint gives the numbers of its authors' code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli.convert import published_model
from pointrend.cli.errors import FAILED, WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from pointrend.verify import Check
    from pointrend.zoo import Model
    from pointrend.zoo.manifest import Published


def verify(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CHECKPOINT", help="A .pth, .pkl or .safetensors file, published or converted.")
    ],
    model: Annotated[str, typer.Option(help="Which published model it is, by its name in `pointrend models`.")],
    reference: Annotated[
        Path,
        typer.Option(metavar="FILE.npz", help="What another implementation computed: image size, seed and tensors."),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare a checkpoint's numbers to a reference, tensor by tensor.

    Prints the largest difference of each tensor, relative to the reference's standard deviation (of probabilities and
    scores: absolute). Of the final logits or masks, 0.5 % of the pixels may differ by more than the tolerance, where
    two points were equally uncertain; of proposals and detections, 5 % may have no partner. The exit code is 1 if a
    tensor differs by more.
    """
    from rich.console import Console

    from pointrend.verify import ReferenceFileError, read_reference
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
    """A published checkpoint, or one that `pointrend convert` wrote."""
    from pointrend.zoo.convert import read_published
    from pointrend.zoo.load import is_foreign
    from pointrend.zoo.modelfile import ModelFileError, read_model, shown

    if is_foreign(path):
        return read_published(path, published)
    made = read_model(path)
    if made.spec.architecture != published.spec.architecture:
        raise ModelFileError(f"{path}: is a {shown(made.spec.name)}, which is built otherwise than {published.name}")
    return made


def _line(check: Check) -> str:
    pixels = f", {100 * check.share:.2f} % {check.counted}" if check.allowed_share or not check.ok else ""
    verdict = "ok" if check.ok else "FAIL"
    return f"{check.name:17} {check.difference:.2e} (tolerance {check.tolerance:.0e}{pixels}) {verdict}"


def _json(checks: list[Check], checkpoint: Path, model: str, reference: Path) -> str:
    from dataclasses import asdict
    from math import isfinite

    tensors = [{**asdict(check), "ok": check.ok} for check in checks]
    for tensor in tensors:
        if not isfinite(tensor["difference"]):  # JSON knows no NaN
            tensor["difference"] = None
    ok = all(check.ok for check in checks)
    content = {"checkpoint": str(checkpoint), "model": model, "reference": str(reference), "ok": ok, "tensors": tensors}
    return json.dumps(content, indent=1)
