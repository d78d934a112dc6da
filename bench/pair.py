"""Two builds of the kernels against each other: ``python -m bench.pair BASE [HEAD]``. Exits with 1 on a confirmed loss.

Both builds are loaded into one process and work on the same arrays, one thread each, operands in cache: short calls in
turns, in Thue-Morse order. The fastest of a few calls stands for them, so a moment that the system gave to somebody
else costs one call and no verdict.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
from rich.table import Table

from bench.build import build, export
from bench.cases import OURS, Case
from bench.table import seconds, wide_console
from deltamoe import ops
from deltamoe.measure import statistics
from deltamoe.measure.order import thue_morse
from deltamoe.measure.statistics import THRESHOLD, Kind, Verdict
from deltamoe.synthetic import GEOMETRIES

__all__ = ["CASES", "compare", "fastest", "load"]

BASE, HEAD = "base", "head"
FASTEST_OF = 8
PAIRS = 128
SECONDS = 5.0  # a case's pairs are fewer where they would take longer
FEWEST_PAIRS = 24

GEOMETRY = replace(
    GEOMETRIES["35b-a3b"],
    num_experts=16,
    num_experts_per_tok=4,
    vocab_size=2560,
    linear_num_key_heads=4,
    linear_num_value_heads=8,
)
"""A small part of 35B-A3B's layer, so that calls are short."""

CASES = [
    *(
        Case(op, "35B-A3B", 1, tokens, "bf16", depth=256 if op == "attention" else 0)
        for op in (
            "attention",
            "gated_delta",
            "gated_delta_block",
            "moe_experts",
            "moe_router",
            "rms_norm",
        )
        for tokens in (1, 16)
    ),
    *(Case("qlinear", "35B-A3B", 1, tokens, dtype, part="head") for tokens in (1, 8) for dtype in ("bf16", "f32")),
]


def load(place: str, work: Path) -> Any:
    """The extension module of a build, beside any other that is loaded.

    Args:
        place: its file or folder, or a revision, which is built.
        work: folder to build in.

    Raises:
        SystemExit: there is none, or it does not build.
    """
    path = Path(place)
    if path.is_dir():
        found = sorted(path.glob("_ext*.so"))
        if not found:
            sys.exit(f"{path} holds no build of the extension (_ext*.so): name the file, its folder or a revision")
        path = found[0]
    elif not path.is_file():
        path = _build(place, work)
    name = f"build{len(LOADED)}._ext"
    spec = importlib.util.spec_from_file_location(name, path, loader=ExtensionFileLoader(name, str(path)))
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)  # type: ignore[union-attr]
    LOADED.append(module)
    return module


def _build(revision: str, work: Path) -> Path:
    export(revision, work / "tree")
    return build(work / "tree", work / "build")


LOADED: list[Any] = []


def compare(
    base: Any, head: Any, case: Case, pairs: int = PAIRS, clock: Callable[[], float] = time.perf_counter
) -> tuple[Verdict, float]:
    """How fast head runs a case beside base.

    Returns:
        The verdict, and base's seconds of a call.
    """
    call = case.set_up(np.random.default_rng(0), cold=0, room=1 << 30, geometry=GEOMETRY).calls(OURS)[0]
    builds = {BASE: base, HEAD: head}
    used = ops._ext

    def once(name: str) -> float:
        ops._ext = builds[name]  # type: ignore[misc]
        start = clock()
        mx.eval(call())
        return clock() - start

    try:
        for name in builds:
            builds[name].set_threads(1)
            spent = [once(name) for _ in range(5)]
        pairs = max(FEWEST_PAIRS, min(pairs, int(SECONDS / (2 * FASTEST_OF * min(spent)))))
        taken: dict[str, list[float]] = {BASE: [], HEAD: []}
        for name in thue_morse([BASE, HEAD], pairs * FASTEST_OF):
            taken[name].append(once(name))
    finally:
        ops._ext = used  # type: ignore[misc]
    before, after = (fastest(taken[name], FASTEST_OF) for name in builds)
    return statistics.verdict(before, after, higher_is_better=False, paired=True), float(np.median(before))


def fastest(samples: Sequence[float], of: int) -> list[float]:
    """The smallest of each ``of`` samples that follow each other."""
    return [min(samples[i : i + of]) for i in range(0, len(samples) - of + 1, of)]


def table(found: Iterable[tuple[Case, Verdict, float]]) -> Table:
    """Verdicts for a terminal."""
    result = Table(title="Head against base: speed, [95% interval]", title_justify="left")
    for name in ("case", "base", "head / base", "verdict"):
        result.add_column(name)
    for case, verdict, spent in found:
        ratio = f"{verdict.ratio:.3f} [{verdict.low:.3f}, {verdict.high:.3f}]"
        result.add_row(case.name.replace(" 35B-A3B", ""), seconds(spent), ratio, _word(verdict))
    return result


def _word(verdict: Verdict) -> str:
    """Two equal builds may differ by up to 1% by their place in memory: no word for what is within the threshold."""
    if verdict.is_loss:
        return "LOSS"
    gain = verdict.kind is Kind.FASTER and verdict.ratio > 1 + verdict.threshold
    return "gain" if gain else f"no change over {verdict.threshold:.0%}"


def main() -> None:
    """Compare and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", help="a build of the extension, its folder, or a revision, which is built")
    parser.add_argument("head", nargs="?", help="likewise; the installed one where none is named")
    parser.add_argument("--case", default="", help="only cases whose name has this in it")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--json", action="store_true", help="print the verdicts as JSON")
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.case in case.name]
    if not cases:
        sys.exit(f"--case {arguments.case!r} is in no case's name; there are: {'; '.join(case.name for case in CASES)}")
    mx.set_default_device(mx.cpu)
    with tempfile.TemporaryDirectory() as work:
        base = load(arguments.base, Path(work, BASE))
        head = load(arguments.head, Path(work, HEAD)) if arguments.head else ops._ext
    found: list[tuple[Case, Verdict, float]] = []
    for case in cases:
        try:
            found.append((case, *compare(base, head, case, arguments.pairs)))
        except TypeError as error:
            print(
                f"{case.name}: not compared, as the builds take different arguments: {str(error)[:200]}",
                file=sys.stderr,
            )
    if arguments.json:
        print(
            json.dumps([{"case": case.name, **asdict(verdict), "loss": verdict.is_loss} for case, verdict, _ in found])
        )
    else:
        wide_console().print(table(found), f"a loss is a slowdown of more than {THRESHOLD:.0%}, confirmed")
    sys.exit(any(verdict.is_loss for _, verdict, _ in found))


if __name__ == "__main__":
    main()
