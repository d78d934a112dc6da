"""``deltamoe demo``: the same model, the same prompt, stock mlx-lm against deltamoe in one process."""

from __future__ import annotations

import contextlib
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import platformdirs
import psutil
from mlx.utils import tree_flatten, tree_map, tree_map_with_path
from mlx_lm.generate import generation_stream, stream_generate
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tokenizer_utils import TokenizerWrapper
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

import deltamoe
from deltamoe.errors import DeltamoeError
from deltamoe.measure.machine import machine, versions
from deltamoe.synthetic import GEOMETRIES, corpus, skeleton, write_model

__all__ = ["DEFAULT_LAYERS", "Report", "Side", "progress", "run", "show"]

DEFAULT_LAYERS = 4  # of any geometry: three Gated DeltaNet layers and one attention layer
CHECK_TOKENS = 16  # of the prompt whose logits are compared
CHECK_STEPS = 4  # of them fed one at a time, as in decoding
DECODE_SECONDS = 20.0  # a run's decoding stops after this long, once it has MIN_DECODE steps
MIN_DECODE = 4
TURN_SECONDS = 1.0  # a side that is faster than this runs again within its turn, TURN_RUNS times at most
TURN_RUNS = 5
EXTRA_SECONDS = 30.0  # how long stock may run in turns after its first
MAX_ROUNDS = 5
MEMORY_MARGIN = 1.5e9  # the interpreter, mlx-lm and the activations of a prefill, in bytes

Step = Callable[[str, int], None]


@dataclass
class Side:
    """What was measured of one side; rates are tokens per second, one value a run, memory is in bytes."""

    logit_error: float = 0.0  # the largest
    median_logit_error: float = 0.0
    prefill: list[float] = field(default_factory=list)
    decode: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    text: str = ""
    peak_memory: int = 0


@dataclass
class Report:
    """The figures of a demo run; :func:`dataclasses.asdict` makes them JSON.

    Attributes:
        note: why deltamoe left all to mlx-lm's own code, or None.
        agreeing_tokens: how many greedy tokens agree from the start, of the ``compared_tokens`` that both sides made.
        peak_rss: of the whole process, writing the model and the reference included, in bytes.
    """

    machine: dict[str, Any]
    model: dict[str, Any]
    prompt_tokens: int
    stock: Side
    patched: Side
    prefill_ratio: float
    decode_ratio: float
    reference: dict[str, Any]
    note: str | None
    agreeing_tokens: int
    compared_tokens: int
    peak_rss: int


def run(
    *,
    geometry: str = "tiny",
    layers: int | None = None,
    prompt_tokens: int = 128,
    tokens: int = 32,
    rounds: int | None = None,
    model_dir: Path | None = None,
    dtype: str = "bfloat16",
    step: Step = lambda text, total: None,
) -> Report:
    """Write a model, load it with mlx-lm and measure both sides in turns: patched, stock, patched, ...

    Args:
        geometry, layers, dtype: as :func:`deltamoe.synthetic.write_model`; None means 4 layers.
        prompt_tokens: at least 1.
        tokens: to generate, at least 2; a slow side may stop earlier.
        rounds: turns of stock; None chooses 1 to 5 by how long the first one takes.
        model_dir: where the model is written and kept, or found again; None writes to the user's cache directory and
            removes it.
        step: called with what runs now and the number of steps in all.

    Raises:
        DeltamoeError: arguments that do not fit, or not enough disk or memory.
    """
    for name, value, least in ("prompt-tokens", prompt_tokens, 1), ("tokens", tokens, 2), ("rounds", rounds, 1):
        if value is not None and value < least:
            raise DeltamoeError(f"{name} is {value}; it must be {least} or more")
    layers = DEFAULT_LAYERS if layers is None else layers
    size = _check_memory(geometry, layers, dtype)
    with contextlib.ExitStack() as stack:
        if model_dir is None:
            cache = platformdirs.user_cache_path("deltamoe", ensure_exists=True)
            model_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="demo-", dir=cache)))
        total = 5 + 3
        step(f"write the model, {size / 1e9:.2f} GB", total)
        write_model(model_dir, geometry, layers, dtype)
        step("load it with mlx_lm.load", total)
        model, tokenizer = mlx_lm.load(str(model_dir))[:2]
        tokenizer.eos_token_ids = []  # random weights may choose it at any time
        prompt = _prompt(tokenizer, prompt_tokens)

        sides = {"stock": Side(), "patched": Side()}
        check = _prompt(tokenizer, CHECK_TOKENS)
        step(f"float32 reference: logits of {CHECK_TOKENS} tokens", total)
        with _as_float32(model):
            reference, _ = _logits(model, check)
        seconds_per_token = {}
        for name, side in sides.items():  # this warms both up, too
            step(f"{name}: logits of {CHECK_TOKENS} tokens", total)
            with _patched_if(name == "patched"):
                logits, seconds_per_token[name] = _logits(model, check)
            error = mx.abs(logits - reference)
            side.logit_error, side.median_logit_error = float(error.max()), float(mx.median(error))
        with deltamoe.patched():
            note = deltamoe.status(model).note

        def turn(name: str, text: str) -> float:
            expected = seconds_per_token[name] * prompt_tokens
            about = f"; prefill may take {expected / 60:.0f} min" if expected > 60 else ""
            step(f"{name}, {text}: {prompt_tokens} tokens in, {tokens} out{about}", total)
            start = time.perf_counter()
            with _patched_if(name == "patched"):
                for _ in range(TURN_RUNS):
                    _generate(model, tokenizer, prompt, tokens, sides[name])
                    if time.perf_counter() - start > TURN_SECONDS:
                        break
            return time.perf_counter() - start

        turn("patched", "round 1")
        first = turn("stock", "round 1")
        rounds = rounds or min(MAX_ROUNDS, 1 + int(EXTRA_SECONDS / first))
        total = 5 + 2 * rounds + 1
        for number in range(2, rounds + 1):
            turn("patched", f"round {number} of {rounds}")
            turn("stock", f"round {number} of {rounds}")
        turn("patched", "last round")

    stock, patched = sides["stock"], sides["patched"]
    compared = min(len(stock.tokens), len(patched.tokens))
    differing = (i for i in range(compared) if stock.tokens[i] != patched.tokens[i])
    return Report(
        machine={**machine(), **versions()},
        model={
            "geometry": geometry,
            "layers": layers,
            "layers_of_geometry": GEOMETRIES[geometry].num_hidden_layers,
            "dtype": dtype,
            "bytes": size,
            "weights": "random",
        },
        prompt_tokens=prompt_tokens,
        stock=stock,
        patched=patched,
        prefill_ratio=statistics.median(patched.prefill) / statistics.median(stock.prefill),
        decode_ratio=statistics.median(patched.decode) / statistics.median(stock.decode),
        reference={
            "what": "stock mlx-lm with the same codes and every other number (scales, biases, activations) in float32"
            + (", which is the stock side itself" if dtype == "float32" else ""),
            "prompt_tokens": CHECK_TOKENS,
            "single_token_steps": CHECK_STEPS,
            "logit_deviation": float(mx.std(reference)),
        },
        note=note,
        agreeing_tokens=next(differing, compared),
        compared_tokens=compared,
        peak_rss=_peak_rss(),
    )


def show(report: Report, console: Console) -> None:
    """Print the figures as tables."""
    model, stamp = report.model, report.machine
    facts = Table.grid(padding=(0, 2))
    facts.add_row("machine", f"{stamp['cpu']}, {stamp['threads']} threads, kernels for {stamp['isa']}")
    facts.add_row(
        "software",
        f"deltamoe {stamp['deltamoe']}, mlx {stamp['mlx']} ({stamp['device']}), mlx-lm {stamp['mlx_lm']}",
    )
    facts.add_row(
        "model",
        f"{model['geometry']}, {model['layers']} layers of {model['layers_of_geometry']}, {model['dtype']}, "
        f"4-bit, {model['bytes'] / 1e9:.2f} GB, [bold]random weights[/bold]: its speed is real, its text is not",
    )
    if report.note is not None:
        facts.add_row("note", f"deltamoe ran mlx-lm's own code: {report.note}")
    console.print(facts, "")

    results = Table("", "stock mlx-lm", "deltamoe", "ratio")
    for label, name, ratio in (
        (f"prefill of {report.prompt_tokens}, tokens/s", "prefill", report.prefill_ratio),
        ("decode, tokens/s", "decode", report.decode_ratio),
    ):
        results.add_row(
            label,
            _spread(getattr(report.stock, name)),
            _spread(getattr(report.patched, name)),
            f"[bold]{ratio:.3g}x[/bold]",
        )
    results.add_row("largest logit error", *(f"{side.logit_error:.3g}" for side in _sides(report)), "")
    results.add_row("median logit error", *(f"{side.median_logit_error:.3g}" for side in _sides(report)), "")
    results.add_row("peak memory of mlx, GB", *(f"{side.peak_memory / 1e9:.2f}" for side in _sides(report)), "")
    console.print(results)
    reference = report.reference
    console.print(
        f"Median (lowest to highest, runs). Logit error: against {reference['what']}; the logits that "
        f"follow the last {reference['single_token_steps']} of {reference['prompt_tokens']} prompt tokens, whose "
        f"standard deviation is {reference['logit_deviation']:.2g}. In {model['dtype']} a rounding may choose another "
        "expert for a token, which sets the largest error; the median shows the usual one.\n"
        f"Peak memory of the whole process: {report.peak_rss / 1e9:.2f} GB.\n",
        style="dim",
    )
    for name, side in ("stock", report.stock), ("deltamoe", report.patched):
        console.print(f"{name + ':':9} {' '.join(side.text.split())[:100]!r}", markup=False, highlight=False)
    if report.agreeing_tokens == report.compared_tokens:
        console.print(f"All {report.compared_tokens} greedy tokens that both generated agree.")
    else:
        console.print(f"The first {report.agreeing_tokens} of {report.compared_tokens} greedy tokens agree.")
        if model["dtype"] != "float32":
            console.print(
                "With random weights the best logits lie close, so errors of this size change the choice; "
                "--dtype float32 compares without them."
            )


@contextlib.contextmanager
def progress(console: Console) -> Iterator[Step]:
    """A bar that says what runs now; where there is no terminal, a line for each step."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    # Redrawn once a second: more would take time from the cores that are being measured.
    shown = console.is_terminal
    with Progress(*columns, console=console, refresh_per_second=1, transient=True, disable=not shown) as bar:
        task = bar.add_task("", total=None)
        steps = 0

        def step(text: str, total: int) -> None:
            nonlocal steps
            steps += 1
            bar.update(task, description=text, completed=steps - 1, total=total)
            if not shown:
                console.print(f"[{steps}] {text}", markup=False, highlight=False)

        yield step


def _sides(report: Report) -> tuple[Side, Side]:
    return report.stock, report.patched


def _spread(values: list[float]) -> str:
    text = f"{statistics.median(values):.3g}"
    if len(values) == 1:
        return f"{text} (1 run)"
    return f"{text} ({min(values):.3g} to {max(values):.3g}, {len(values)} runs)"


def _patched_if(condition: bool) -> contextlib.AbstractContextManager[Any]:
    return deltamoe.patched() if condition else contextlib.nullcontext()


def _prompt(tokenizer: TokenizerWrapper, count: int) -> list[int]:
    ids: list[int] = tokenizer.encode(corpus()[: 16 * count])[:count]
    if len(ids) < count:
        raise DeltamoeError(f"prompt-tokens is {count}; the demo's text has {len(ids)} tokens")
    return ids


def _generate(model: nn.Module, tokenizer: TokenizerWrapper, prompt: list[int], tokens: int, side: Side) -> None:
    """One greedy run of mlx-lm's own loop; rates are taken between the moments at which it yields."""
    mx.reset_peak_memory()
    ids, texts, times = [], [], [time.perf_counter()]
    for response in stream_generate(model, tokenizer, prompt, max_tokens=tokens):
        times.append(time.perf_counter())
        ids.append(response.token)
        texts.append(response.text)
        if len(ids) > MIN_DECODE and times[-1] - times[1] > DECODE_SECONDS:
            break
    mx.synchronize(generation_stream)  # mlx-lm has begun one token more
    side.prefill.append(len(prompt) / (times[1] - times[0]))
    side.decode.append((len(ids) - 1) / (times[-1] - times[1]))
    side.tokens, side.text = ids, "".join(texts)
    side.peak_memory = max(side.peak_memory, mx.get_peak_memory())


def _logits(model: nn.Module, prompt: list[int]) -> tuple[mx.array, float]:
    """Float32 logits ``[CHECK_STEPS, vocab]``, a prefill and then token by token, and the prefill's seconds a token."""
    cache = make_prompt_cache(model)
    ids = mx.array(prompt)[None]
    head = len(prompt) - CHECK_STEPS
    start = time.perf_counter()
    model(ids[:, :head], cache=cache)
    mx.eval([entry.state for entry in cache])
    seconds = (time.perf_counter() - start) / head
    rows = []
    for i in range(head, len(prompt)):
        rows.append(model(ids[:, i : i + 1], cache=cache)[0, -1].astype(mx.float32))
        mx.eval(rows[-1])
    return mx.stack(rows), seconds


@contextlib.contextmanager
def _as_float32(model: nn.Module) -> Iterator[None]:
    """The model with every float parameter in float32; codes stay. Casting back loses nothing."""
    dtypes = {name: value.dtype for name, value in tree_flatten(model.parameters())}
    floating = mx.floating
    model.update(
        tree_map(lambda x: x.astype(mx.float32) if mx.issubdtype(x.dtype, floating) else x, model.parameters())
    )
    mx.eval(model.parameters())
    try:
        yield
    finally:
        model.update(tree_map_with_path(lambda name, x: x.astype(dtypes[name]), model.parameters()))
        mx.eval(model.parameters())
        mx.clear_cache()


def _check_memory(geometry: str, layers: int, dtype: str) -> int:
    """The model's bytes, after a check that it fits in memory with its floats in float32."""
    values = [value for _, value in tree_flatten(skeleton(geometry, layers, dtype)[0].parameters())]
    needed = sum(x.nbytes if x.dtype == mx.uint32 else 4 * x.size for x in values) + MEMORY_MARGIN
    if needed > (available := psutil.virtual_memory().available):
        raise DeltamoeError(
            f"{geometry} with {layers} layers needs {needed / 1e9:.1f} GB of memory and {available / 1e9:.1f} GB are "
            "available; choose fewer layers or a smaller geometry"
        )
    return sum(x.nbytes for x in values)


def _peak_rss() -> int:
    """The process's largest resident size in bytes; macOS counts in bytes, Linux in KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak
