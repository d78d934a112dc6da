"""The command line: make sim FILE=..."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deltamoe_sim.cli import app, console

SOURCE = """#include <metal_stdlib>
using namespace metal;
constant bool twice [[function_constant(0)]];
kernel void add(device const float* x,
                device float* y,
                constant int& shift,
                device const bfloat* b,
                uint i [[thread_position_in_grid]]) {
  y[i] = x[i + shift] + float(b[i]) * (twice ? 2 : 1);
}
"""
RUN = ["--kernel", "add", "--grid", "2", "--buffer", "b=random:64", "--constant", "twice=true"]


@pytest.fixture
def shader(tmp_path: Path) -> str:
    path = tmp_path / "add.metal"
    path.write_text(SOURCE)
    return str(path)


def run(*arguments: str) -> tuple[int, str]:
    console.width = 200
    done = CliRunner().invoke(app, list(arguments))
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_lists_the_kernels(shader: str) -> None:
    code, output = run(shader)
    assert code == 0
    assert "add" in output
    assert "const int32& shift [[buffer(2)]]" in output
    assert "float32* y [[buffer(1)]]" in output


def test_runs_and_saves(shader: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(64, dtype=np.float32))
    b, y = tmp_path / "b.npy", tmp_path / "y.npy"
    code, output = run(
        *(shader, *RUN, "--buffer", f"x=@{tmp_path / 'x.npy'}", "--buffer", "y=output:64", "--buffer", "shift=0"),
        *("--save", f"y={y}", "--save", f"b={b}"),
    )
    assert code == 0, output
    expected = np.arange(64) + 2 * (np.load(b).astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(np.load(y), expected.astype(np.float32))
    assert "device bytes stored" in output
    assert "256" in output


def test_shows_findings(shader: str) -> None:
    code, output = run(shader, *RUN, "--buffer", "x=zeros:64", "--buffer", "y=output:65", "--buffer", "shift=1")
    assert code == 1
    assert f"{shader}:9: out-of-bounds: read of 4 bytes" in output.replace("\n", "")
    assert "y: nothing was written to 4 bytes" in output


def test_shows_what_does_not_compile(tmp_path: Path) -> None:
    path = tmp_path / "bad.metal"
    path.write_text(SOURCE.replace("x[i + shift]", "x[i + shift"))
    code, output = run(str(path))
    assert code == 1
    assert f"{path}:9:" in output.replace("\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "sub"], "no kernel 'sub': this library has add"),
        (["--kernel", "add", "--constant", "twice=1"], "buffer x [[buffer(0)]] is not given"),
        (["--kernel", "add", "--buffer", "z=1", "--constant", "twice=1"], "add has no buffer 'z'"),
        (["--kernel", "add", "--grid", "a"], "one to three numbers"),
        (["--kernel", "add", "--buffer", "x"], "NAME=VALUE is wanted"),
        (["--kernel", "add", "--buffer", "x=ones:4", "--constant", "twice=1"], "random:SHAPE"),
    ],
    ids=["kernel", "missing buffer", "unknown buffer", "grid", "pair", "array"],
)
def test_usage_errors(shader: str, arguments: list[str], message: str) -> None:
    code, output = run(shader, *arguments)
    assert code == 2
    assert message in " ".join(output.replace("│", " ").split())
