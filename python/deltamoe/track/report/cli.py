"""``deltamoe track report`` and ``deltamoe track summary``."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from deltamoe.arguments import Database, explained
from deltamoe.errors import DeltamoeError

if TYPE_CHECKING:
    from deltamoe.track.report.series import Machine

__all__ = ["app"]

app = typer.Typer()

Last = Annotated[int, typer.Option(min=1, help="How many runs of each machine to show, the latest ones.")]


@app.command()
def report(
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write.")] = Path("track-report.html"),
    last: Last = 60,
    db: Database = None,
) -> None:
    """Write trends, changes, kernels against the machine's limits and all figures to one HTML file."""
    if output.is_dir() or not output.absolute().parent.is_dir():
        raise DeltamoeError(f"{output} cannot be written: expected a file's name in a directory that exists")
    from deltamoe.track.report.page import render

    page = render(_machines(db, last))
    with explained("track report"):
        output.write_text(page, encoding="utf-8", errors="replace")  # a database may hold half of a surrogate pair
    typer.echo(f"wrote {output}")


@app.command()
def summary(last: Last = 60, db: Database = None) -> None:
    """Show trends, the latest figures and what changed, here in the terminal."""
    from deltamoe.track.report import terminal

    terminal.show(_machines(db, last), Console())


def _machines(db: Path | None, last: int) -> list[Machine]:
    """What the database holds; none is made where there is none.

    Raises:
        DeltamoeError: the store's, or a database was named that does not exist.
    """
    from deltamoe.track.record import is_alive
    from deltamoe.track.report.series import machines
    from deltamoe.track.store import Store, default_path

    path = default_path() if db is None else db
    if not path.exists():
        if db is None:
            return []
        raise DeltamoeError(f"{db} does not exist; expected a database that deltamoe track record has written")
    with Store.open(path) as store:
        runs, measurements = store.runs(), store.measurements()
    killed = [run.state == "running" and not is_alive(run) for run in runs]
    runs = [replace(run, state="interrupted") if gone else run for run, gone in zip(runs, killed, strict=True)]
    return machines(runs, measurements, last)
