"""``python -m deltamoe.bench counts moe`` on the tiny geometry."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import asdict, fields
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from deltamoe.bench import __main__ as command
from deltamoe.bench import moe, tables
from deltamoe.bench.simulate import Counts, mlx_metallib, total
from deltamoe.bench.stock import moe as stock

WEIGHTS = 3 * 256 * 128
"""Of a tiny expert."""
SHARED_SCALE = 256


@pytest.fixture(scope="module")
def report() -> moe.Report:
    return moe.run("tiny", [1, 2, 12])


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, report: moe.Report) -> None:
    """The command finds the report made already."""
    monkeypatch.setattr(moe, "run", lambda *args, **kwargs: report)


def test_all_bars_hold(report: moe.Report) -> None:
    assert {bar.case for bar in report.bars} == {"1 token", "2 tokens", "12 tokens"}
    assert not [bar for bar in report.bars if bar.holds is False]


def test_codes_of_one_token(report: moe.Report) -> None:
    """Four experts of it and the shared one: each code is loaded once, as in stock where Apple compiled it."""
    one = report.comparisons[0]
    codes = 5 * WEIGHTS // 2
    assert one.weights == 5 * WEIGHTS * 9 // 16 + SHARED_SCALE * 17 // 16
    assert total(one.ours).code_bytes == codes + SHARED_SCALE
    if report.metallib:
        assert total(one.stock).code_bytes == codes
    assert one.weights <= total(one.ours).line_bytes <= 1.03 * one.weights
    assert (one.our_dispatches, one.stock_dispatches) == (4, 23)


def test_prefill_loads_codes_once_for_each_expert(report: moe.Report) -> None:
    """12 tokens in tiles of 16: no expert has more than one tile."""
    twelve = report.comparisons[2]
    assert not twelve.stock_is_grouped
    assert total(twelve.ours).code_bytes >= (twelve.experts + 1) * WEIGHTS // 2
    assert total(twelve.ours).code_bytes <= 1.02 * (twelve.experts + 1) * WEIGHTS // 2 + 12 * SHARED_SCALE
    if report.metallib:
        (bar,) = (bar for bar in report.bars if bar.case == "12 tokens")
        assert bar.figure == pytest.approx(twelve.pairs / twelve.experts, rel=0.1)


def test_matrix_operations_of_the_grouped_path() -> None:
    """Stock makes as many for a tile of 16 rows as if it were full."""
    comparison = moe.run("tiny", [64]).comparisons[0]
    rows = 256 + 16 * (comparison.experts - 1)
    assert comparison.stock_is_grouped
    assert 256 * WEIGHTS // 512 <= total(comparison.stock).matrix_ops - 64 * WEIGHTS // 512 <= rows * WEIGHTS // 512
    assert total(comparison.ours).matrix_ops <= total(comparison.stock).matrix_ops


def test_a_cut_counts_as_the_whole(report: moe.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moe, "MOST_WEIGHTS", 1.0)
    whole, cut = report.comparisons[0], moe.run("tiny", [1]).comparisons[0]
    assert (whole.cut.parts, cut.cut.parts) == ((1, 1), (2, 2))
    assert total(cut.stock).bytes_loaded == pytest.approx(total(whole.stock).bytes_loaded, rel=1e-3)
    assert total(cut.ours).bytes_loaded == pytest.approx(total(whole.ours).bytes_loaded, rel=5e-3)
    assert total(cut.ours).simd_ops == pytest.approx(total(whole.ours).simd_ops, rel=5e-3)


def test_tables_and_json_add_up(report: moe.Report) -> None:
    out = io.StringIO()
    tables.show(report, Console(file=out, width=200))
    text = out.getvalue()
    assert "not times" in text
    found = json.loads(json.dumps(report.as_dict()))
    for each, comparison in zip(found["comparisons"], report.comparisons, strict=True):
        for side in ("ours", "stock"):
            sums = {
                field.name: sum(d["parts"] * d["counts"][field.name] for d in each[side]) for field in fields(Counts)
            }
            assert each["total"][side] == sums == asdict(total(getattr(comparison, side)))
            assert all(f"{value:,}" in text for value in sums.values())
    for bar in report.bars:
        assert bar.what in text


def test_a_bar_that_fails(
    report: moe.Report, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(moe, "MOST_LINES", 1.0)
    shape = moe.GEOMETRIES["tiny"]
    bars = tuple(moe._bars(shape, report.comparisons[0], True))
    assert [bar.what for bar in bars if not bar.holds] == ["distinct cache lines / bytes of weights"]
    assert all(bar.holds is None for bar in moe._bars(shape, report.comparisons[2], False))
    monkeypatch.setattr(moe, "run", lambda *args, **kwargs: moe.Report("tiny", None, report.comparisons, bars))
    monkeypatch.setattr(sys, "argv", ["bench", "counts", "moe"])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 1
    assert "FAILS" in (text := capsys.readouterr().out)
    assert "not judged" in text


@pytest.mark.usefixtures("run")
def test_command_writes_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        sys, "argv", ["bench", "counts", "moe", "--geometry", "tiny", "--json", str(tmp_path / "x.json")]
    )
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 0
    assert json.loads((tmp_path / "x.json").read_text())["geometry"] == "tiny"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tokens", "1,x"], "numbers with commas between"),
        (["--tokens", "0"], "must be 1 or more"),
        (["--geometry", "huge"], "unknown geometry 'huge'; choose one of tiny"),
        (["--json", "/nowhere/x.json"], "is not a directory"),
    ],
)
def test_wrong_arguments(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["bench", "counts", "moe", *arguments])
    with pytest.raises(SystemExit) as end:
        command.main()
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("missing", ["deltamoe_sim", "llvmlite"])
def test_without_the_simulator(missing: str) -> None:
    text = f"import sys; sys.modules[{missing!r}] = None; from deltamoe.bench.__main__ import main; main()"
    run = subprocess.run([sys.executable, "-c", text, "counts", "moe"], capture_output=True, text=True)
    assert run.returncode == 2
    assert run.stdout == ""
    (line,) = run.stderr.splitlines()
    assert "make build" in line


def test_headers_in_place_of_apples_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their repeated loads are nobody's, so they decide nothing."""
    monkeypatch.setattr(moe, "mlx_metallib", lambda: None)
    report = moe.run("tiny", [1])
    assert [bar.what for bar in report.bars if bar.holds is None] == ["bytes loaded / stock's"]
    assert total(report.comparisons[0].stock).code_bytes >= 5 * WEIGHTS // 2


@pytest.mark.parametrize(
    ("kernel", "tokens", "experts", "rows", "columns"),
    [
        ("gather_qmv_fast", 2, 4, 16, 512),
        ("gather_qmv", 2, 4, 16, 192),
        ("gather_qmm_rhs_nt", 32, 8, 40, 96),
        ("qmv_fast", 1, 0, 13, 512),
        ("qmv", 1, 0, 16, 192),
        ("qmv_quad", 1, 0, 16, 128),
        ("qmv_wide", 7, 0, 16, 192),
        ("qmm_t", 40, 0, 40, 192),
    ],
)
def test_stock_launches_give_the_product(kernel: str, tokens: int, experts: int, rows: int, columns: int) -> None:
    """So they are launched as MLX launches them."""
    rng = np.random.default_rng(tokens)
    w = moe._matrix(rng, (experts, rows, columns) if experts else (rows, columns), (32, 4))
    x = moe._bfloat16(rng.standard_normal((tokens, columns)))
    if experts:
        lhs, rhs = (np.repeat(np.arange(n, dtype=np.uint32), 2 * tokens // n) for n in (tokens, experts))
        launch = stock.gather_qmm(w, x, lhs, rhs, experts)
        dense, inputs = dequantized(w)[rhs], from_bfloat16(x)[lhs]
    else:
        launch = stock.qmm(w, x)
        dense, inputs = dequantized(w)[None], from_bfloat16(x)
    assert launch.kernel.startswith(f"affine_{kernel}_bfloat16_t")
    launch.run(mlx_metallib())
    got = from_bfloat16(np.asarray(launch.buffers["y"]))
    want = (inputs[:, None] * dense).sum(-1)
    size = abs(inputs[:, None] * dense).sum(-1)
    assert (abs(got - want) <= 2**-7 * size).all()


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def dequantized(w: stock.Matrix) -> np.ndarray:
    codes = (w.codes[..., None] >> np.arange(0, 32, 4, np.uint32)) & 15
    scales, biases = (np.repeat(from_bfloat16(part), w.group, -1) for part in (w.scales, w.biases))
    return scales * codes.reshape(scales.shape) + biases


def test_mlxs_rules() -> None:
    assert [stock.is_sorted(pairs) for pairs in (63, 64)] == [False, True]
    assert [stock.is_grouped(pairs, 512) for pairs in (2040, 2050)] == [False, True]
    assert [stock.is_grouped(pairs, 256) for pairs in (1016, 1024)] == [False, True]
    assert sum(stock.BLOCK.values()) == 23
