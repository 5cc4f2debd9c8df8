"""`pointrend refine`: crisp masks from soft or coarse ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointrend.cli import options
from pointrend.cli.errors import FAILED, WRONG_USAGE, describe, one_line_errors, report

if TYPE_CHECKING:
    from rich.console import Console

    from pointrend.refining import Refiner


def refine(
    images: Annotated[str, typer.Argument(metavar="IMAGES", help="An image, a folder of images, or a pattern.")],
    masks: Annotated[
        Path,
        typer.Argument(
            metavar="MASKS",
            help="A mask, a folder of masks named as the images, or COCO results in JSON for a folder of images.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the results; created if missing.")] = Path("out"),
    model: options.Model = "refiner-lite0",
    kind: options.Kind = None,
    fit: options.Fit = None,
    save: Annotated[
        str,
        typer.Option(
            metavar="WHAT,...",
            help="What to write: mask, soft (edges of 0 to 255), cutout (RGBA), overlay, changed (a map), json.",
        ),
    ] = "mask",
    passes: Annotated[int | None, typer.Option(min=1, help="Passes over the outline.  [default: the model's]")] = None,
    extent: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="PIXELS", help="Nothing changes further from the given outline.  [default: the model's]"
        ),
    ] = None,
    keep: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="RATIO",
            help="Where the first pass moves at most this ratio of the outline, it stays as given; 0 keeps nothing.  "
            "[default: the model's]",
        ),
    ] = None,
    specks: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Remove parts of under N pixels, and fill such holes; for one object."),
    ] = 0,
    device: options.Device = "cpu",
    engine: options.Engine = "torch",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace results of other images in --out.")] = False,
    as_json: options.Json = False,
) -> None:
    """Make the outlines of masks follow the objects in their photographs.

    Writes DIR/IMAGE.png at the image's size: 0 and 255 for one object, the labels or ids for several. A pair that
    cannot be refined is reported and skipped. The exit code is 0 if all are done, 1 if some failed, 2 for wrong usage.
    """
    from rich.console import Console

    console = Console(stderr=True)
    with console.status("Loading the model ..."), one_line_errors(code=WRONG_USAGE):
        from pointrend.errors import PointRendError
        from pointrend.refining import KINDS, refiner
        from pointrend.results.refined import SAVED

        if out.exists() and not out.is_dir():
            raise PointRendError(f"--out must be a folder, {out} is a file")
        what = [name.strip() for name in save.split(",") if name.strip()]
        if not what or not set(what) <= {*SAVED, "json"}:
            raise PointRendError(f"--save must be some of {', '.join(SAVED)}, json, got {save!r}")
        if kind is not None and kind not in KINDS:
            raise PointRendError(f"--kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if fit not in (None, "stretch", "pad"):
            raise PointRendError(f"--fit must be stretch or pad, got {fit!r}")
        pairs = find_pairs(images, masks)
        loaded = refiner(model, device=device, engine=engine, passes=passes, extent=extent, keep=keep)
        out.mkdir(parents=True, exist_ok=True)
    batch = _Batch(loaded, out, what, {"kind": kind, "fit": fit}, specks, overwrite)
    records = batch.run(pairs, console)
    if as_json:
        print(json.dumps(records, indent=2))
    else:
        done = sum("error" not in record for record in records)
        for record in records:
            if "error" not in record:
                names = ", ".join(Path(file).name for file in record["files"])
                print(f"{record['image']} -> {names}: {record['changed_pixels']} pixels changed")
        print(f"{done} of {len(records)} done{f'; the results are in {out}' if done else '; nothing was written'}")
    if any("error" in record for record in records):
        raise SystemExit(FAILED)


@dataclass(frozen=True)
class Pair:
    """An image and its mask, or why it has none."""

    image: Path
    mask: Any = None
    problem: str | None = None


def find_pairs(images: str, masks: Path) -> list[Pair]:
    """Pair images with masks: two files, or those of the same stem; or with the objects of COCO results.

    Raises:
        PointRendError: there are no images or masks, or none fit each other.
    """
    from pointrend.cli.photos import find_photos
    from pointrend.data.images import PHOTO_SUFFIXES
    from pointrend.errors import PointRendError

    photos, problems = find_photos([images])
    if problems:
        raise PointRendError(problems[0][1])
    if not masks.exists():
        raise PointRendError(f"{masks}: no such file or folder of masks")
    if masks.suffix.lower() == ".json":
        from pointrend.refining.coco import coco_ids

        found = coco_ids(masks, photos)
        return [Pair(path, *found(path)) for path in photos]
    if masks.is_file():
        if len(photos) != 1:
            raise PointRendError(f"{masks} is one mask, but {images} are {len(photos)} images; give a folder of masks")
        return [Pair(photos[0], masks)]
    files = sorted(path for path in masks.iterdir() if path.suffix.lower() in (*PHOTO_SUFFIXES, ".npy"))
    by_stem: dict[str, list[Path]] = {}
    for path in files:
        by_stem.setdefault(path.stem, []).append(path)
    pairs = []
    for photo in photos:
        named = [path for path in by_stem.get(photo.stem, []) if path.resolve() != photo.resolve()]
        problem = None if len(named) == 1 else _no_single_mask(photo, masks, named)
        pairs.append(Pair(photo, named[0] if len(named) == 1 else None, problem))
    if all(pair.problem for pair in pairs):
        shown = files[0].name if files else "nothing"
        raise PointRendError(f"{masks}: no mask has the name of an image; images are {photos[0].name}, masks {shown}")
    if unused := len(files) - sum(pair.problem is None for pair in pairs):
        report(f"{unused} of {len(files)} masks in {masks} have no image and are left out", kind="note")
    return pairs


def _no_single_mask(photo: Path, masks: Path, named: list[Path]) -> str:
    if not named:
        return f"{photo}: no mask of this name in {masks}"
    return f"{photo}: several masks of this name: {', '.join(path.name for path in named)}"


@dataclass(frozen=True)
class _Batch:
    """The pairs of one call of the command."""

    refiner: Refiner
    out: Path
    what: list[str]
    how: dict[str, Any]
    specks: int
    overwrite: bool
    inputs: set[Path] = field(default_factory=set)

    def run(self, pairs: list[Pair], console: Console) -> list[dict[str, Any]]:
        """Refine all pairs and save the results; failures are reported, and recorded."""
        from pointrend.cli.photos import output_stems
        from pointrend.progress import counting

        self.inputs.update(
            path.resolve() for pair in pairs for path in (pair.image, pair.mask) if isinstance(path, Path)
        )
        stems = output_stems([pair.image for pair in pairs], [".png"])
        records = []
        with counting("{}", console=console) as progress:
            for done, (pair, stem) in enumerate(zip(pairs, stems, strict=True)):
                windows = 0

                def advance(count: int, image: Path = pair.image, index: int = done) -> None:
                    nonlocal windows
                    windows += count
                    progress(f"refining {image.name}, {windows} windows", index, len(pairs))

                try:
                    if pair.problem is not None:
                        raise ValueError(pair.problem)
                    records.append(self._refined(pair, stem, advance))
                except (ValueError, OSError) as error:
                    message = describe(error)
                    message = message if str(pair.image) in message else f"{pair.image}: {message}"
                    report(message)
                    records.append({"image": str(pair.image), "error": message})
        return records

    def _refined(self, pair: Pair, stem: str, advance: Any) -> dict[str, Any]:
        from pointrend.cli.photos import check_targets
        from pointrend.results.refined import SAVED

        suffixes = [".json" if name == "json" else SAVED[name] for name in self.what]
        targets = [self.out / f"{stem}{suffix}" for suffix in suffixes]
        check_targets(pair.image, targets, self.inputs, overwrite=self.overwrite)
        result = self.refiner.refine(pair.image, pair.mask, progress=advance, **self.how)
        result = result.without_specks(self.specks) if self.specks else result
        files = result.save_as(self.out, self.what, stem=stem)
        return {**result.summary(), "image": str(pair.image), "files": [str(file) for file in files]}
