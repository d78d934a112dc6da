"""``python -m deltamoe.bench counts gdn`` and ``accuracy gdn``, at few tokens."""

from __future__ import annotations

import io
import json
import re
import sys
from collections import Counter
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from unittest import mock

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models import gated_delta
from mlx_lm.models.cache import ArraysCache
from rich.console import Console

from deltamoe.bench import __main__ as command
from deltamoe.bench import accuracy, gdn, tables
from deltamoe.bench.simulate import Counts
from deltamoe.bench.stock import gated_delta as stock
from deltamoe.synthetic import GEOMETRIES, skeleton
from tests import oracle
from tests.arrays import numpy_of

TOKENS = 64
"""One chunk of the largest."""


@pytest.fixture(scope="module")
def report() -> gdn.Report:
    return gdn.run("35b", TOKENS)


def side(report: gdn.Report, name: str) -> gdn.Side:
    (found,) = (each for each in report.prefill if each.name == name)
    return found


# ---- counts ----


def test_all_bars_hold(report: gdn.Report) -> None:
    assert {bar.case for bar in report.bars} == {"1 token", *(f"64 tokens: {name}" for name in accuracy.OURS)}
    assert not [bar for bar in report.bars if bar.holds is False]


def test_dispatches_and_state_of_one_token(report: gdn.Report) -> None:
    shape = GEOMETRIES["35b-a3b"]
    state = 4 * shape.linear_num_value_heads * shape.linear_key_head_dim * shape.linear_value_head_dim
    assert report.layer == {"ours": 6, "stock": 19}
    assert [gdn.state_bytes(each) for each in report.decode] == [2 * state, 2 * state]
    for each in report.decode:  # and nothing is counted of what the command carries
        (dispatched,) = each.dispatches
        assert not dispatched.loaded.keys() & {"sizes", "T"}
        assert sum(dispatched.loaded.values()) == each.counts.bytes_loaded
        assert sum(dispatched.stored.values()) == each.counts.bytes_stored


def test_matrix_operations(report: gdn.Report) -> None:
    """MLX core's: 102 for 8 tokens and 8 rows of a state; mlx-lm's and ours token by token have none."""
    shape = GEOMETRIES["35b-a3b"]
    heads = shape.linear_num_value_heads
    assert side(report, "MLX core").counts.matrix_ops == TOKENS * heads * 102 * 16 // 8
    assert side(report, "mlx-lm").counts.matrix_ops == 0
    assert side(report, "ours, sequential").counts.matrix_ops == 0
    for chunk in gdn.CHUNKS:
        fewest = gdn.minimum(chunk, 128, 128, heads // shape.linear_num_key_heads, TOKENS)
        assert side(report, f"ours, C = {chunk}").counts.matrix_ops == heads * sum(fewest.values())
    once = [bar.figure for bar in report.bars if "/ once per" in bar.what]
    assert once == [1] * 2 * len(gdn.CHUNKS)


@pytest.mark.parametrize("chunk", gdn.CHUNKS)
def test_the_minimum_is_that_of_products_of_tiles(chunk: int) -> None:
    """Counted on matrices of which each number stands for a tile: a product takes as many operations as it sums."""
    n, d, e, per_key = chunk // 8, 4, 8, 2
    ones = {shape: np.ones(shape, int) for shape in ((n, d), (d, n), (d, e), (n, e))}
    lower = np.tril(np.ones((n, n), int))
    want = [
        2 * ((ones[n, d] @ ones[d, n]) * lower).sum() / per_key,
        2 * (ones[n, d] @ ones[d, e]).sum() + (ones[d, n] @ ones[n, e]).sum(),
        2 * (lower @ ones[n, e]).sum(),
    ]
    assert list(gdn.minimum(chunk, 8 * d, 8 * e, per_key, chunk).values()) == want
    assert list(gdn.minimum(chunk, 8 * d, 8 * e, per_key, 2 * chunk + 1).values()) == [3 * each for each in want]


def test_one_key_head_counts_as_a_part_of_all() -> None:
    shape = GEOMETRIES["tiny"]
    for chunk in (gdn.SEQUENTIAL, 16):
        part, whole = (gdn.Side("", tuple(gdn._ours(shape, 24, heads, chunk))).counts for heads in (1, 2))
        assert asdict(part * 2) == pytest.approx(asdict(whole), rel=0.02)
        assert (part.matrix_ops * 2, part.barriers * 2) == (whole.matrix_ops, whole.barriers)


def test_without_a_kernel_of_mlx_core() -> None:
    report = gdn.run("tiny", 16)
    assert "MLX core" not in [each.name for each in report.prefill]
    assert not [bar for bar in report.bars if "MLX core" in bar.what]


def test_dispatches_of_stocks_layer(tmp_path: Path) -> None:
    """The table beside the graph that mlx-lm makes, with stand-ins for what MLX without a GPU has not in one piece."""
    model, _ = skeleton("tiny")
    layer = model.layers[0].linear_attn
    layer.update(tree_map(lambda x: mx.zeros(x.shape, x.dtype), layer.parameters()))
    cache = ArraysCache(size=2)
    cache[0] = mx.zeros((1, layer.conv_kernel_size - 1, layer.conv_dim), mx.bfloat16)
    cache[1] = mx.zeros((1, layer.num_v_heads, layer.head_v_dim, layer.head_k_dim))
    x, y = mx.zeros((1, 1, 256), mx.bfloat16), mx.zeros((1, 1, layer.num_v_heads, layer.head_v_dim), mx.bfloat16)
    mx.eval(layer.parameters(), cache[0], cache[1], x, y)
    before: list[mx.array] = []

    def rule(*arrays: mx.array | None) -> tuple[mx.array, mx.array]:
        *inputs, state, mask = arrays
        assert mask is None
        before.extend(each for each in inputs if each is not None)
        return y, state

    with (
        mock.patch.object(mx.fast, "rms_norm", lambda x, *_: mx.erf(x)),
        mock.patch.object(gated_delta, "gated_delta_ops", rule),
    ):
        after = layer(x, None, cache)
    mx.export_to_dot(str(tmp_path / "layer.dot"), after, cache[0], *before)
    found = Counter(re.findall(r'label ="(\w+)"', (tmp_path / "layer.dot").read_text()))
    views = sum(found.pop(name) for name in ("Broadcast", "Reshape", "Slice", "Split"))
    assert views > 0
    assert found == {
        "QuantizedMatmul": stock.PROJECTIONS,
        "Concatenate": 1,
        "Contiguous": 1,
        "Erf": 3,
        "Multiply": 2,
        "Convolution": 1,
        "Sigmoid": 1,
        **dict.fromkeys((name for name in found if name.startswith("Compiled")), 1),
    }
    fused = sum(name.startswith("Compiled") for name in found)
    assert fused == 3  # silu, g, y silu(z)
    copies_of_concatenate, the_rule = 2, 1
    assert sum(stock.LAYER.values()) == found.total() - 1 + copies_of_concatenate + the_rule == 19


def test_tables_and_json_add_up(report: gdn.Report) -> None:
    text = shown(report)
    assert "not times" in text
    found = json.loads(json.dumps(report.as_dict()))
    for sides, each in ((found["decode"], report.decode), (found["prefill"], report.prefill)):
        for entry, one in zip(sides, each, strict=True):
            sums = {
                field.name: sum(d["parts"] * d["counts"][field.name] for d in entry["dispatches"])
                for field in fields(Counts)
            }
            assert entry["total"] == sums == asdict(one.counts)
    assert all(f"{each.counts.bytes_loaded:,}" in text for each in report.decode)
    pairs = TOKENS * GEOMETRIES["35b-a3b"].linear_num_value_heads
    assert all(f"{each.counts.bytes_loaded / pairs:,.0f}" in text for each in report.prefill)
    assert all(bar.what in text for bar in report.bars)


def test_bars_that_fail(report: gdn.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gdn, "MOST_MATRIX_OPS", 0.99)
    shape = GEOMETRIES["35b-a3b"]
    failing = [bar for bar in gdn._prefill_bars(shape, TOKENS, report.prefill, False) if bar.holds is False]
    assert {bar.what for bar in failing} == {"matrix operations / the algorithm's"}
    unjudged = [bar for bar in gdn._prefill_bars(shape, TOKENS, report.prefill, False) if bar.holds is None]
    assert {bar.what for bar in unjudged} == {"bytes loaded and stored / MLX core's"}


# ---- accuracy ----

CASES = [
    accuracy.Case("float32", "mixed", "(0, 2)", "random"),
    accuracy.Case("bfloat16", "slow", "(0, 1)", "nearly parallel"),
]


@pytest.fixture(scope="module")
def errors() -> accuracy.Report:
    return accuracy.run(40, CASES)


def test_bars_of_accuracy(errors: accuracy.Report) -> None:
    """Over so few tokens MLX core's g of 1 is hardly wrong yet."""
    assert [row.case for row in errors.rows] == CASES
    assert all(row.errors.keys() == set(accuracy.SIDES) for row in errors.rows)
    assert not [bar for bar in errors.bars if not bar.holds]
    assert len(errors.bars) == 7 * len(accuracy.OURS)


def test_accuracy_in_tables_and_json(errors: accuracy.Report) -> None:
    text = shown(errors)
    for row in json.loads(json.dumps(errors.as_dict()))["rows"]:
        assert all(f"{error:.2e}" in text for side in row["errors"].values() for error in side.values())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.dtype)
def test_float64_is_the_oracle(case: accuracy.Case) -> None:
    x = accuracy._inputs(case, 9)
    arrays = map(numpy_of, (x.q, x.k, x.v, x.a, x.b, x.A_log, x.dt_bias, x.state))
    want = oracle.gated_delta(*arrays, allow_neg_eigval=x.allow_neg_eigval)
    for got, wanted in zip(accuracy._float64(x), want, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12)


def test_stock_launches_give_the_rule(errors: accuracy.Report) -> None:
    """So they are launched as MLX and mlx-lm launch them."""
    exact, rounded = (row.errors for row in errors.rows)
    for name in (gdn.CORE, gdn.MLX_LM):
        assert max(exact[name].values()) < 1e-6
        assert max(rounded[name].values()) < 2e-2


@pytest.mark.parametrize("wrong", [np.nan, 1.01])
def test_a_wrong_result_fails(wrong: float, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = accuracy._ours

    def spoilt(x: Any, chunk: int) -> tuple[np.ndarray, np.ndarray]:
        y, state = ours(x, chunk)
        return y, state * np.float32(wrong)

    monkeypatch.setattr(accuracy, "_ours", spoilt)
    report = accuracy.run(16, CASES[:1])
    failing = {bar.what for bar in report.bars if not bar.holds}
    assert failing == {
        "error of the state / MLX core's",
        "error of the state / mlx-lm's",
        "error of the state, float32",
    }
    assert "FAILS" in shown(report)


# ---- commands ----


@pytest.mark.parametrize("what", ["counts", "accuracy"])
def test_command_writes_json(
    what: str, report: gdn.Report, errors: accuracy.Report, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gdn, "run", lambda *args: report)
    monkeypatch.setattr(accuracy, "run", lambda *args, **kwargs: errors)
    monkeypatch.setattr(sys, "argv", ["bench", what, "gdn", "--json", str(tmp_path / "x.json")])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 0
    assert json.loads((tmp_path / "x.json").read_text())["tokens"] == (TOKENS if what == "counts" else 40)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["counts", "gdn", "--tokens", "8"], "prefill begins above 8"),
        (["counts", "gdn", "--geometry", "huge"], "unknown geometry 'huge'; choose one of tiny"),
        (["accuracy", "gdn", "--tokens", "8"], "too few: at least 9"),
        (["accuracy", "gdn", "--json", "/nowhere/x.json"], "is not a directory"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def shown(report: gdn.Report | accuracy.Report) -> str:
    out = io.StringIO()
    tables.show(report, Console(file=out, width=250))
    return out.getvalue()
