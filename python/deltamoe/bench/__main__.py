"""``python -m deltamoe.bench``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deltamoe.errors import DeltamoeError

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
app.add_typer(counts, name="counts")


@app.callback()
@counts.callback()
def _root() -> None:
    pass


@counts.command()
def moe(
    geometry: Annotated[
        str, typer.Option(help="tiny, 35b-a3b, 122b-a10b or 397b-a17b, or the beginning of one.")
    ] = "397b",
    tokens: Annotated[str, typer.Option(help="Numbers of tokens.")] = "1,8,64,204,205",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all counts to this file.")] = None,
) -> None:
    """One mixture of experts beside stock MLX's, and the bars that it must meet. Exits with 1 if one fails."""
    try:
        numbers = [int(text) for text in tokens.split(",")]
    except ValueError:
        raise DeltamoeError(f"--tokens {tokens}: numbers with commas between are wanted, as in 1,8,64") from None
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise DeltamoeError(f"{json_file} cannot be written: {json_file.parent} is not a directory")
    try:
        from deltamoe.bench import moe as task
        from deltamoe.bench import tables
    except ImportError as error:
        if str(error.name).partition(".")[0] not in ("deltamoe_sim", "llvmlite", "ziglang"):
            raise
        raise DeltamoeError(
            f"counting needs metalsim, and {error.name} does not import: it is for development and in no wheel; in a "
            "checkout, make build lint installs it into .venv"
        ) from None
    with Console(stderr=True).status("") as status:
        report = task.run(geometry, numbers, step=status.update)
    tables.show(report, Console())
    if json_file is not None:
        json_file.write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    if any(bar.holds is False for bar in report.bars):
        raise typer.Exit(1)


def main() -> None:
    """Run it; a person's own errors are one line and exit code 2."""
    try:
        app(prog_name="python -m deltamoe.bench")
    except DeltamoeError as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"deltamoe.bench: {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
