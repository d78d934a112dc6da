"""``deltamoe track``: record tokens per second, compare revisions, find the one that made it slower."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import platformdirs
import typer
from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from deltamoe.arguments import Database, check_model, explained, numbers
from deltamoe.errors import DeltamoeError
from deltamoe.track.report import cli as reporting

if TYPE_CHECKING:
    from deltamoe.track import record as recording
    from deltamoe.track.store import Measurement, Run

__all__ = ["app"]

EXTRA = ("jinja2", "ruptures", "scipy")  # what deltamoe[track] brings
STOCK_SECONDS = 120.0  # a round; a slower stock, as on CPUs, is measured only where --stock says so

app = typer.Typer(help="Tokens per second over time: record, compare, report.", no_args_is_help=True)
app.add_typer(reporting.app)

Threshold = Annotated[float, typer.Option(min=0, max=100, help="A slowdown of more than this, in percent, is a loss.")]
Model = Annotated[str, typer.Option(help="A model directory, or a Hugging Face repository.")]
Prefill = Annotated[str, typer.Option(help="Prompt lengths in tokens; empty for none.")]
Depths = Annotated[str, typer.Option("--decode-depth", help="Tokens before those that are decoded; empty for none.")]
Batches = Annotated[str, typer.Option("--batch", help="Numbers of sequences.")]
Tokens = Annotated[int, typer.Option(min=1, help="Tokens to decode for one sample.")]
Rounds = Annotated[int, typer.Option(min=1, help="Samples of each figure.")]
Stock = Annotated[bool, typer.Option(help="Measure stock mlx-lm beside, in turns.")]


@app.callback()
def _root() -> None:
    if missing := [name for name in EXTRA if find_spec(name) is None]:
        raise DeltamoeError(f"track needs {', '.join(missing)}; install it with pip install 'deltamoe[track]'")


@app.command()
def record(
    model: Model,
    prefill: Prefill = "128,512",
    depths: Depths = "0,1024",
    batches: Batches = "1",
    tokens: Tokens = 32,
    rounds: Rounds = 20,
    stock: Annotated[
        bool | None,
        typer.Option(
            "--stock/--no-stock",
            help="Measure stock mlx-lm beside, in turns.",
            show_default=f"where a round of it takes less than {STOCK_SECONDS:.0f} s",
        ),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the same run that was interrupted.")] = False,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the figures for github-action-benchmark to this file.")
    ] = None,
    db: Database = None,
) -> None:
    """Measure a model's tokens per second, patched and stock in turns, and store every sample."""
    from deltamoe.measure import machine
    from deltamoe.track import export
    from deltamoe.track import record as recording
    from deltamoe.track.store import Run, Store

    cells = _cells(prefill, depths, batches, tokens)
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise DeltamoeError(f"{json_file} cannot be written: {json_file.parent} is not a directory")
    check_model(model)
    console = Console(stderr=True)
    with Store.open(db) as store:
        with console.status(f"load {model}"), explained(model):
            from deltamoe.track.runner import ModelRunner

            runner = ModelRunner(model)
        facts, versions, revision = machine.machine(), machine.versions(), machine.revision()
        if stock is None:
            with console.status("how fast is stock?"):
                stock = _stock_is_fast(runner, cells, console)
        sides = [recording.PATCHED, recording.STOCK] if stock else [recording.PATCHED]
        plan = recording.Plan(
            cells, sides, rounds, {**runner.facts, "device": versions["device"], "threads": versions["threads"]}
        )
        run = Run(
            revision=revision.name,
            dirty=revision.dirty,
            machine=machine.fingerprint(facts),
            machine_facts=facts,
            versions=versions,
            notes={"plan": plan.as_json(), "process": recording.this_process()},
        )
        run = recording.resume(store, run) if resume else store.add_run(run)
        try:
            with _bar(console) as step:
                run = recording.record(store, run, plan, runner, step=step)
        except KeyboardInterrupt:
            taken = sum(len(entry.samples) for entry in store.measurements(run))
            raise DeltamoeError(
                f"interrupted: run {run.id} has {taken} of {len(plan.order())} samples; go on with the same command "
                "and --resume"
            ) from None
        measurements = store.measurements(run)
        _show(run, measurements, Console())
        if json_file is not None:
            with explained("track record"):
                json_file.write_text(json.dumps(export.github_entries(measurements), indent=2) + "\n")


@app.command()
def runs(db: Database = None) -> None:
    """List what was recorded."""
    from deltamoe.track.record import is_alive
    from deltamoe.track.store import Store

    columns = "run", "revision", "begun, UTC", "state", "figures", "model", "machine"
    table = Table(*columns, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns[:-1]:
        column.no_wrap = True
    with Store.open(db, create=False) as store:
        for run in store.runs():
            entries = store.measurements(run)
            state = "interrupted" if run.state == "running" and not is_alive(run) else run.state
            models = sorted({str(entry.settings["model"]) for entry in entries if "model" in entry.settings})
            table.add_row(
                *(str(run.id), run.label, run.started[:16].replace("T", " "), state, str(len(entries))),
                ", ".join(models),
                Text(f"{run.machine[:6]} {run.machine_facts.get('cpu')}", no_wrap=True, overflow="ellipsis"),
            )
    Console().print(table)


@app.command()
def compare(
    base: Annotated[str, typer.Argument(help="A run's number, or a revision.")],
    head: Annotated[str, typer.Argument(help="Likewise.")],
    threshold: Threshold = 3,
    fail: Annotated[bool, typer.Option(help="Exit with 1 where a slowdown over the threshold is confirmed.")] = True,
    db: Database = None,
) -> None:
    """Say whether head is slower than base, where machine and settings are the same."""
    from deltamoe.track import compare as comparing
    from deltamoe.track.store import Store

    with Store.open(db, create=False) as store:
        before, after = comparing.find_runs(store, base), comparing.find_runs(store, head)
        report = comparing.compare(store, before, after, threshold / 100)
    comparing.show(report, Console())
    if fail and report.losses:
        raise typer.Exit(1)


@app.command()
def bisect(
    good: Annotated[str, typer.Argument(help="A revision that is fast.")],
    bad: Annotated[str, typer.Argument(help="A later one that is slow.")],
    model: Model,
    prefill: Prefill = "128",
    depths: Depths = "0",
    batches: Batches = "1",
    tokens: Tokens = 32,
    rounds: Rounds = 20,
    stock: Stock = True,
    threshold: Threshold = 3,
    folder: Annotated[
        Path | None,
        typer.Option("--dir", help="For work tree, environment, database.", show_default="the user's cache directory"),
    ] = None,
) -> None:
    """Find the revision that made a model slower, by git bisect: each that it asks for is built and measured."""
    from deltamoe.measure.machine import PACKAGE, git
    from deltamoe.track import bisect as bisecting

    _cells(prefill, depths, batches, tokens)
    check_model(model)
    top = git(PACKAGE, "rev-parse", "--show-toplevel")
    if top is None:
        raise DeltamoeError("bisecting needs a checkout of deltamoe; this one was installed without its history")
    options = ["--model", str(Path(model).resolve()) if Path(model).exists() else model]
    options += ["--prefill", prefill, "--decode-depth", depths, "--batch", batches]
    options += ["--tokens", str(tokens), "--rounds", str(rounds), "--stock" if stock else "--no-stock"]
    console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
    found = bisecting.bisect(
        good,
        bad,
        repository=Path(top),
        folder=folder or platformdirs.user_cache_path("deltamoe") / "bisect",
        options=options,
        threshold=threshold / 100,
        say=console.print,
    )
    out = Console(soft_wrap=True, markup=False, highlight=False)
    lost = f"{found.row.name}, {found.row.side}: {1 - found.row.verdict.ratio:.1%} slower"
    if len(found.culprits) == 1:
        out.print(f"{lost} since {git(Path(top), 'log', '-1', '--format=%h %s', found.culprits[0])}")
    else:
        out.print(f"{lost} since one of these, of which some could not be measured:")
        for revision in found.culprits:
            out.print(f"  {git(Path(top), 'log', '-1', '--format=%h %s', revision)}")


@app.command("import")
def bring_in(
    file: Annotated[Path, typer.Argument(help="JSON of pytest-benchmark, or a track.db of another machine.")],
    db: Database = None,
) -> None:
    """Add what was measured elsewhere."""
    from deltamoe.track import export
    from deltamoe.track.store import Store

    with explained("track import"), Store.open(db) as store:
        found = export.bring_in(store, file)
        for run in found:
            figures = len(store.measurements(run))
            typer.echo(f"run {run.id}: {run.label}, {figures} figure{'s' * (figures != 1)}")
        if not found:
            typer.echo(f"{file}: every run of it is there already")


def _cells(prefill: str, depths: str, batches: str, tokens: int) -> list[recording.Cell]:
    from deltamoe.track.record import Cell

    sizes = numbers("--batch", batches, 1)
    cells = [
        *(Cell("prefill", prompt=prompt, batch=size) for size in sizes for prompt in numbers("--prefill", prefill, 1)),
        *(
            Cell("decode", depth=depth, tokens=tokens, batch=size)
            for size in sizes
            for depth in numbers("--decode-depth", depths, 0)
        ),
    ]
    if not cells:
        raise DeltamoeError("nothing to measure: name lengths with --prefill or --decode-depth, and a --batch")
    return cells


def _stock_is_fast(runner: recording.Runner, cells: list[recording.Cell], console: Console) -> bool:
    """Whether a round of stock takes less than :data:`STOCK_SECONDS`, judged by one token; says so if not."""
    from deltamoe.track.record import STOCK, Cell

    token = 1 / runner.measure(Cell("prefill", prompt=1), STOCK)
    seconds = token * sum(cell.length for cell in cells)
    if seconds <= STOCK_SECONDS:
        return True
    console.print(
        f"stock is left out: a token takes it {token:.2g} s, a round of all figures about {_duration(seconds)}; "
        "--stock measures it all the same",
        style="yellow",
        highlight=False,
        soft_wrap=True,
    )
    return False


@contextmanager
def _bar(console: Console) -> Iterator[recording.Callback]:
    """A bar with the time left; where there is no terminal, a line every tenth."""
    shown = console.is_terminal
    # Redrawn once a second: more would take time from the cores that are being measured.
    text, left_text = TextColumn("{task.description}"), TextColumn("{task.fields[left]}")
    columns = SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), left_text
    with Progress(*columns, console=console, refresh_per_second=1, disable=not shown) as bar:
        task = bar.add_task("", total=None, left="")
        tenth = -1

        def step(progress: recording.Progress) -> None:
            nonlocal tenth
            left = "" if progress.seconds_left is None else f"{_duration(progress.seconds_left)} left"
            bar.update(task, description=progress.next, completed=progress.done, total=progress.total, left=left)
            if not shown and (now := 10 * progress.done // progress.total) > tenth:
                tenth = now
                text = f"[{progress.done}/{progress.total}] {progress.next} {left}".rstrip()
                console.print(text, markup=False, highlight=False)

        yield step


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _show(run: Run, measurements: list[Measurement], console: Console) -> None:
    from deltamoe.measure.statistics import summarize
    from deltamoe.track.compare import ratios, short_side

    console.print(f"Run {run.id}: {run.label}, {measurements[0].settings['model']}", markup=False, highlight=False)
    table = Table("", "side", "median", "95% interval", "cv", "n", "", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[2:6]:
        column.justify, column.no_wrap = "right", True
    names = list(dict.fromkeys(entry.name for entry in measurements))
    name = ""
    for entry in sorted(
        [*measurements, *ratios(measurements)], key=lambda entry: (names.index(entry.name), entry.side)
    ):
        before, name = name, entry.name
        short = summarize(entry.samples)
        table.add_row(
            *("" if name == before else name, short_side(entry.side)),
            *(f"{short.median:.4g} {entry.unit}", f"{short.low:.4g} to {short.high:.4g}"),
            *(f"{short.cv:.1%}", str(short.n), "[yellow]noisy[/]" if entry.noisy else ""),
        )
    console.print(table)
    for note in "drift", "clock":
        if note in run.notes:
            console.print(f"Note: {run.notes[note]}.", style="yellow", markup=False, highlight=False)
