"""The command ``deltamoe``."""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

import deltamoe
from deltamoe.arguments import check_model, explained
from deltamoe.errors import DeltamoeError
from deltamoe.track import cli as track

__all__ = ["app", "main"]

MLX_LM_COMMANDS = {
    "generate": "Generate text once, as mlx_lm.generate.",
    "chat": "Chat in the terminal, as mlx_lm.chat.",
    "server": "Serve an OpenAI-compatible API, as mlx_lm.server.",
    "benchmark": "Measure a model's speed, as mlx_lm.benchmark.",
    "cache_prompt": "Store a prompt's cache in a file, as mlx_lm.cache_prompt.",
    "perplexity": "Measure a model's perplexity, as mlx_lm.perplexity.",
}

app = typer.Typer(
    name="deltamoe",
    help="Qwen3.5-family models, fast under mlx-lm.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(track.app, name="track")


def main() -> None:
    """Run the command line; a person's own errors are one line and exit code 1 (2 where the usage is wrong)."""
    try:
        app(prog_name="deltamoe")
    except DeltamoeError as error:
        Console(stderr=True, soft_wrap=True, markup=False, highlight=False).print(f"deltamoe: {error}")
        raise SystemExit(1) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(deltamoe.__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    try:
        deltamoe.cpu_features()
    except ValueError as error:  # DELTAMOE_THREADS or DELTAMOE_ISA
        raise DeltamoeError(str(error)) from None


@app.command()
def demo(
    geometry: Annotated[str, typer.Option(help="tiny, 35b-a3b, 122b-a10b or 397b-a17b.")] = "tiny",
    layers: Annotated[int | None, typer.Option(help="How many layers, 4 or more.", show_default="4")] = None,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 128,
    tokens: Annotated[int, typer.Option(help="Tokens to generate; a slow side may stop earlier.")] = 32,
    rounds: Annotated[int | None, typer.Option(help="Turns of stock mlx-lm.", show_default="1 to 5, by time")] = None,
    model_dir: Annotated[
        Path | None, typer.Option(help="Write the model here and keep it.", show_default="removed at the end")
    ] = None,
    dtype: Annotated[str, typer.Option(help="bfloat16, float16 or float32.")] = "bfloat16",
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
) -> None:
    """Write a model with random weights, generate with stock mlx-lm and with deltamoe, compare speed and numbers."""
    if json_file is not None and not json_file.absolute().parent.is_dir():
        raise DeltamoeError(f"{json_file} cannot be written: {json_file.parent} is not a directory")
    from deltamoe import demo as task  # here, because mlx-lm takes a second to import

    with explained("demo"), task.progress(Console(stderr=True)) as step:
        report = task.run(
            geometry=geometry,
            layers=layers,
            prompt_tokens=prompt_tokens,
            tokens=tokens,
            rounds=rounds,
            model_dir=model_dir,
            dtype=dtype,
            step=step,
        )
    task.show(report, Console())
    if json_file is not None:
        with explained("demo"):
            json_file.write_text(json.dumps(asdict(report), indent=2) + "\n")


@app.command()
def status(model: Annotated[str, typer.Argument(help="A model directory, or a Hugging Face repository.")]) -> None:
    """Say which modules of a model deltamoe runs, which are left to mlx-lm, and why."""
    check_model(model)
    import mlx_lm

    with explained(model):
        loaded = mlx_lm.load(model, lazy=True)[0]
    with deltamoe.patched():
        Console().print(deltamoe.status(loaded))


@app.command()
def features() -> None:
    """Show which kernels this machine can run."""
    found = deltamoe.cpu_features()
    table = Table.grid(padding=(0, 2))
    table.add_row("kernels in use", found["isa"])
    table.add_row("available", ", ".join(found["available"]))
    table.add_row("threads", str(found["threads"]))
    Console().print(table)


def _add_mlx_lm_command(name: str, summary: str) -> None:
    @app.command(
        name,
        help=f"{summary} All arguments go to mlx-lm; see deltamoe {name} --help.",
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    )
    def command() -> None:
        _run_mlx_lm(name, sys.argv[sys.argv.index(name) + 1 :])  # not click's rest, which lacks "--"


for _name, _summary in MLX_LM_COMMANDS.items():
    _add_mlx_lm_command(_name, _summary)


def _run_mlx_lm(name: str, arguments: list[str]) -> None:
    """mlx-lm's own command, in this process, patched."""
    model = _option(arguments, "--model")
    if model is not None:
        check_model(model)
    module = importlib.import_module(f"mlx_lm.{name}")
    before = sys.argv
    sys.argv = [f"deltamoe {name}", *arguments]
    try:
        with explained(name), deltamoe.patched():
            module.main()
    finally:
        sys.argv = before


def _option(arguments: list[str], name: str) -> str | None:
    """The value of ``--name value`` or ``--name=value``, the last one if there are several."""
    value = None
    for argument, following in zip(arguments, [*arguments[1:], None], strict=True):
        if argument == name:
            value = following
        elif argument.startswith(f"{name}="):
            value = argument.partition("=")[2]
    return value
