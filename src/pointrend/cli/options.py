"""Options of several commands, to be used as `options.NAME`, and loading of the model that they select."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from pointrend.cli.errors import FAILED, WRONG_USAGE, describe, one_line_errors, report

if TYPE_CHECKING:
    from pointrend import zoo
    from pointrend.predict import Slide, TestAugmentation
    from pointrend.zoo.download import Progress

Number = TypeVar("Number", int, float)

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
Kind = Annotated[
    str | None,
    typer.Option(
        metavar="binary|probabilities|logits|labels|ids",
        help="What the values of masks to refine mean.  [default: guessed where only one meaning is possible]",
    ),
]
Fit = Annotated[
    str | None,
    typer.Option(
        metavar="stretch|pad",
        help="What a mask of another shape covers: the image stretched to it, or padded at the right and bottom to a "
        "square.",
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
Scales = Annotated[
    str,
    typer.Option(
        metavar="S,S,...",
        help="Multiples of the size at which the network sees a photo, such as 0.5,0.75,1,1.25,1.5,1.75: predictions "
        "at all of them are averaged. Better, and slower.",
    ),
]
Flip = Annotated[bool, typer.Option("--flip", help="Average with the prediction of the mirror image, at each scale.")]
Mode = Annotated[
    str,
    typer.Option(
        metavar="whole|slide",
        help="Semantic models: the network sees a photo as a whole, or in windows that slide over it.",
    ),
]
Crop = Annotated[
    str | None,
    typer.Option(metavar="H,W", help="With --mode slide: the size of a window, in the resized photo's pixels."),
]
Stride = Annotated[
    str | None, typer.Option(metavar="H,W", help="With --mode slide: the pixels from a window to the next.")
]
Json = Annotated[bool, typer.Option("--json", help="Print only JSON to stdout, for programs.")]


def augmentation_of(scales: str, *, flip: bool) -> TestAugmentation:
    """Return the test-time augmentation that --scales and --flip name; raise ValueError if they name none."""
    from pointrend.predict import TestAugmentation

    return TestAugmentation(_numbers(scales, float, "--scales must be numbers such as 0.5,1,1.5"), flip)


def slide_of(mode: str, crop: str | None, stride: str | None) -> Slide | None:
    """Return the windows that --mode, --crop and --stride name; raise ValueError if they name none."""
    from pointrend.predict import Slide

    if mode not in ("whole", "slide"):
        raise ValueError(f"--mode must be whole or slide, got {mode!r}")
    if mode == "whole":
        if crop or stride:
            raise ValueError(f"{'--crop' if crop else '--stride'} needs --mode slide")
        return None
    if not (crop and stride):
        raise ValueError("--mode slide needs --crop H,W and --stride H,W, such as --crop 512,512 --stride 384,384")
    sizes = [
        _numbers(text, int, f"{name} must be H,W such as 512,512")
        for name, text in (("--crop", crop), ("--stride", stride))
    ]
    for name, size in zip(("--crop", "--stride"), sizes, strict=True):
        if len(size) != 2:
            raise ValueError(f"{name} must be H,W such as 512,512, got {len(size)} number{'s' * (len(size) > 1)}")
    return Slide((sizes[0][0], sizes[0][1]), (sizes[1][0], sizes[1][1]))


def _numbers(text: str, kind: Callable[[str], Number], expected: str) -> list[Number]:
    try:
        return [kind(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(f"{expected}, got {text[:100]!r}") from None


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
