"""`pointrend eval` of a model that refines masks."""

from __future__ import annotations

import json
from pathlib import Path

from pointrend.cli.errors import WRONG_USAGE, one_line_errors

TITLES = {
    "iou": "IoU",
    "boundary_iou_2": "Boundary IoU 2 %",
    "boundary_iou_05": "Boundary IoU 0.5 %",
    "boundary_iou_3px": "Boundary IoU 3 px",
}


def evaluate_refiner(
    model: str,
    data: Path,
    *,
    corrupt: str | None,
    masks: Path | None,
    kind: str | None,
    fit: str | None,
    limit: int | None,
    device: str,
    engine: str,
    as_json: bool,
) -> None:
    """Score a refiner on masks of a folder, or on wrong ones made of the true masks; print a table, or JSON."""
    from rich.console import Console
    from rich.table import Table

    from pointrend.errors import PointRendError
    from pointrend.progress import counting
    from pointrend.refining import refiner
    from pointrend.refining.scoring import corrupted_masks, find_truths, masks_of_folder, score_refiner

    console = Console(stderr=True)
    with one_line_errors(code=WRONG_USAGE):
        if (corrupt is None) == (masks is None):
            raise PointRendError("a refiner is scored on --corrupt KIND,... or on --masks DIR: give one of them")
        pairs = find_truths(data)
        pairs = pairs[:limit]
        if masks is not None:
            wanted = {masks.name: masks_of_folder(masks)}
        else:
            from pointrend.data.masks.corruptions import CORRUPTIONS

            names = list(CORRUPTIONS) if corrupt == "all" else [name.strip() for name in str(corrupt).split(",")]
            wanted = {name: corrupted_masks(name) for name in names}
        loaded = refiner(model, device=device, engine=engine)
    rows = []
    with counting("{}", console=console) as progress, one_line_errors():
        for name, make in wanted.items():
            rows.append(
                score_refiner(
                    loaded,
                    pairs,
                    make,
                    name,
                    kind=kind,  # type: ignore[arg-type]  # checked by `given_mask`
                    fit=fit,  # type: ignore[arg-type]
                    progress=lambda done, total, name=name: progress(f"refining {name}", done, total),  # type: ignore[misc]
                )
            )
    if as_json:
        print(json.dumps([row.to_dict() for row in rows], indent=2))
        return
    table = Table("masks", *TITLES.values(), title=f"{model} on {data}, {len(pairs)} images: before -> after")
    for row in rows:
        table.add_row(row.kind, *(f"{row.before[key]:.1f} -> {row.after[key]:.1f}" for key in TITLES))
    Console().print(table)
