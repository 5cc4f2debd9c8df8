"""Options of several commands, to be used as `options.NAME`, and loading of the model that they select."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from pointrend.cli.errors import FAILED, WRONG_USAGE, describe, one_line_errors, report

if TYPE_CHECKING:
    from pointrend import zoo
    from pointrend.zoo.download import Progress

Model = Annotated[
    str, typer.Option(help="A name from 'pointrend models', or the path of a .safetensors, .pth or .pkl file.")
]
Size = Annotated[
    int | None,
    typer.Option(
        metavar="PIXELS",
        help="Shortest edge to which a photo is resized for the network. Larger finds finer details and takes longer. "
        "Results always have the photo's size.  [default: the model's]",
    ),
]
Points = Annotated[
    int | None,
    typer.Option(metavar="N", help="Number of points predicted in each rendering step.  [default: the model's]"),
]
Steps = Annotated[
    int | None,
    typer.Option(metavar="N", help="Number of rendering steps; each doubles the resolution.  [default: the model's]"),
]
MaxDetections = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="Instance models: the maximum number of objects in a photo.  [default: the model's]"
    ),
]
Device = Annotated[str, typer.Option(help="Device to compute on: cpu, cuda, cuda:1, mps.")]
Engine = Annotated[
    str,
    typer.Option(
        help="Library that runs the network: torch, openvino or onnxruntime (both faster on CPUs), or auto for the "
        "fastest one installed."
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="For the engine openvino: float32, or bfloat16 or int8 (faster on some CPUs, less exact); int8 needs "
        "'pointrend calibrate' first."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON to stdout, for programs.")]


def load_or_exit(
    model: str, *, device: str, engine: Any, precision: Any, progress: Progress | None = None
) -> zoo.Model:
    """Return the selected model, or end the program with one line: wrong usage, or failed if the file is damaged."""
    from pointrend.devices import available_device
    from pointrend.zoo import load_model
    from pointrend.zoo.engines import EngineError
    from pointrend.zoo.load import UnknownModelError

    with one_line_errors(code=WRONG_USAGE):
        available_device(device)
        try:
            return load_model(model, device=device, progress=progress, engine=engine, precision=precision)
        except (UnknownModelError, EngineError):
            raise
        except ValueError as error:
            report(describe(error))
            raise SystemExit(FAILED) from None
