"""``python -m deltamoe.bench``."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deltamoe.arguments import numbers
from deltamoe.errors import DeltamoeError

if TYPE_CHECKING:
    from deltamoe.bench import accuracy, gdn, moe

app = typer.Typer(
    name="deltamoe.bench",
    help="What deltamoe's kernels and stock MLX's cost.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
counts = typer.Typer(
    help="Count on the simulator: dispatches, bytes, barriers, matrix operations.", no_args_is_help=True
)
errors = typer.Typer(help="Errors against float64, on the simulator.", no_args_is_help=True)
app.add_typer(counts, name="counts")
app.add_typer(errors, name="accuracy")

GeometryOption = Annotated[str, typer.Option(help="tiny, 35b-a3b, 122b-a10b or 397b-a17b, or the beginning of one.")]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")]


@app.callback()
@counts.callback()
@errors.callback()
def _root() -> None:
    pass


@counts.command("moe")
def counts_moe(
    geometry: GeometryOption = "397b",
    tokens: Annotated[str, typer.Option(help="Numbers of tokens.")] = "1,8,64,204,205",
    json_file: JsonOption = None,
) -> None:
    """One mixture of experts beside stock MLX's, and the bars that it must meet. Exits with 1 if one fails."""
    lengths = numbers("--tokens", tokens, 1)

    def run(step: Callable[[str], object]) -> moe.Report:
        from deltamoe.bench import moe as task

        return task.run(geometry, lengths, step)

    _report(run, json_file)


@counts.command("gdn")
def counts_gdn(
    geometry: GeometryOption = "397b",
    tokens: Annotated[int, typer.Option(help="Number of tokens of prefill.")] = 512,
    json_file: JsonOption = None,
) -> None:
    """A Gated DeltaNet layer beside stock's, and the bars that it must meet. Exits with 1 if one fails."""

    def run(step: Callable[[str], object]) -> gdn.Report:
        from deltamoe.bench import gdn as task

        return task.run(geometry, tokens, step)

    _report(run, json_file)


@errors.command("gdn")
def accuracy_gdn(
    tokens: Annotated[int, typer.Option(help="Number of tokens.")] = 4096,
    json_file: JsonOption = None,
) -> None:
    """The gated delta rule beside MLX core's and mlx-lm's, and the bars. Exits with 1 if one fails."""

    def run(step: Callable[[str], object]) -> accuracy.Report:
        from deltamoe.bench import accuracy as task

        return task.run(tokens, step=step)

    _report(run, json_file)


def _report(
    run: Callable[[Callable[[str], object]], moe.Report | gdn.Report | accuracy.Report], json_file: Path | None
) -> None:
    """Run, show and write; the modules that count are imported only here, as metalsim may be missing."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise DeltamoeError(f"{json_file} cannot be written: {json_file.parent} is not a directory")
    try:
        from deltamoe.bench import tables
    except ImportError as error:
        if str(error.name).partition(".")[0] not in ("deltamoe_sim", "llvmlite", "ziglang"):
            raise
        raise DeltamoeError(
            f"counting needs metalsim, and {error.name} does not import: it is for development and in no wheel; in a "
            "checkout, make build lint installs it into .venv"
        ) from None
    with Console(stderr=True).status("") as status:
        report = run(status.update)
    tables.show(report, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    if any(bar.holds is False for bar in report.bars):
        raise typer.Exit(1)


@app.command("roofline")
def predict(
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Predict tokens per second on Apple GPUs, stock and ours, from counts and what others measured."""
    from deltamoe.bench import roofline

    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise DeltamoeError(f"{json_file} cannot be written: {json_file.parent} is not a directory")
    report = roofline.run()
    roofline.show(report, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")


def main() -> None:
    """Run it; a person's own errors are one line and exit code 2."""
    try:
        app(prog_name="python -m deltamoe.bench")
    except DeltamoeError as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"deltamoe.bench: {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
