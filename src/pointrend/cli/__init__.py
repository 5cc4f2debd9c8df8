"""The command `pointrend`, one file per subcommand. Heavy imports are inside of functions, so that help is quick."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from pointrend.cli import calibrate, convert, data, evaluate, models, predict, refine, runs, study, train, verify
from pointrend.cli.errors import INTERRUPTED, WRONG_USAGE, noticed, one_line_errors, report

app = typer.Typer(
    name="pointrend",
    help="Image segmentation with crisp boundaries.\n\nTry it: pointrend predict photo.jpg --out out",
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("predict")(predict.predict)
app.command("refine")(refine.refine)
app.command("train")(train.train)
app.command("runs")(runs.runs)
app.command("eval")(evaluate.evaluate)
app.add_typer(data.app, name="data")
app.add_typer(study.app, name="study")
app.command("models")(models.models)
app.command("convert")(convert.convert)
app.command("verify")(verify.verify)
app.command("calibrate")(calibrate.calibrate)


def _print_version(wanted: bool) -> None:
    if wanted:
        from pointrend import __version__

        print(f"pointrend {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with 0 (done), 1 (failed on some inputs), 2 (wrong usage) or 130 (interrupted)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    with one_line_errors(), noticed():
        try:
            code = command.main(given or ["--help"], prog_name="pointrend", standalone_mode=False)
        except _USAGE_ERROR as error:
            report(_usage_message(error))
            code = WRONG_USAGE
        except typer.Abort:
            code = INTERRUPTED
        if code == INTERRUPTED:  # click handles KeyboardInterrupt silently
            report("interrupted")
    raise SystemExit(code if isinstance(code, int) else 0)


# Typer does not export the class of usage errors, which is click's or that of a copy of click in newer versions.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]


def _usage_message(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    where = context.command_path if context else "pointrend"
    said = str(getattr(error, "format_message", error.__str__)())
    return f"{' '.join(said.split()).rstrip('.')} (see {where} --help)"
