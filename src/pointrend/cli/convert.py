"""`pointrend convert`: published checkpoints to model files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

if TYPE_CHECKING:
    from pointrend.data.classes import ClassInfo
    from pointrend.zoo.manifest import Published


def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A published .pth, .pkl or .safetensors file.")],
    out: Annotated[Path, typer.Option(metavar="X.safetensors", help="The file to write.")],
    model: Annotated[
        str | None,
        typer.Option(help="The published model's name (see `pointrend models`); by default detected from its weights."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|A,B,C",
            help="Names of the classes, in the order of the logits: a .json file as classes.json of a data set, or "
            "names with commas. Needed for checkpoints with other classes than the published ones.  "
            "[default: the published ones, or class 0, class 1, ...]",
        ),
    ] = None,
) -> None:
    """Convert a published checkpoint to a self-contained model file.

    The file holds weights, architecture, class names and colours, and test settings; give its path to `predict`,
    `eval` or `load_model`. The checkpoint is read without executing code in it, and every tensor must be used.
    """
    from pointrend.zoo.convert import read_checkpoint
    from pointrend.zoo.modelfile import save_model

    with one_line_errors(code=WRONG_USAGE):
        published = None if model is None else published_model(model)
        named = None if classes is None else _classes(classes)
        _check_target(out, file)
    model_read = read_checkpoint(file, published, named)
    save_model(model_read, out)
    print(f"{file} is {model_read.spec.name} -> {out} ({out.stat().st_size / 1e6:.1f} MB)")


def _classes(text: str) -> tuple[ClassInfo, ...]:
    """Return the classes that `--classes` names; raise ValueError if it does not."""
    from pointrend.data.classes import named_classes, read_classes_file

    if text.endswith(".json"):
        return read_classes_file(Path(text)).classes
    try:
        return named_classes([name.strip() for name in text.split(",")])
    except ValueError as error:
        raise ValueError(f"--classes: {error}") from error


def published_model(name: str) -> Published:
    """Return the published model of this name; raise ValueError with the nearest names if it does not exist."""
    import difflib

    from pointrend.zoo.manifest import PUBLISHED

    if name not in PUBLISHED:
        near = difflib.get_close_matches(name, PUBLISHED, n=3, cutoff=0.4) or sorted(PUBLISHED)
        raise ValueError(f"no published model is called {name!r}; the nearest names are {', '.join(near)}")
    return PUBLISHED[name]


def _check_target(out: Path, source: Path) -> None:
    from pointrend.zoo.modelfile import ModelFileError, read_spec

    if out.suffix != ".safetensors":
        raise ValueError(f"--out must end in .safetensors, got {out}")
    if not out.exists():
        return
    if out.is_dir() or (source.exists() and out.samefile(source)):
        raise ValueError(f"{out} is a folder or the input; choose another --out")
    try:
        read_spec(out)
    except ModelFileError as error:
        raise ValueError(f"{out} exists and pointrend did not write it; choose another --out") from error
