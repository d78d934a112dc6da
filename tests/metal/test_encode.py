"""What the encoder asks of Metal, recorded by a stand-in for MLX's Metal device, and what becomes of an op's inputs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlx
import pytest

from tests.compiled import ROOT

COMPILER = os.environ.get("CXX") or shutil.which("c++")
MLX = next((Path(path) for path in mlx.__path__ if Path(path, "include").is_dir()), None)

FIRST = """\
kernel first_float_3
set_buffer 0 there + 0
set_buffer 1 there + 8
set_input_array 2 pending
set_output_array 3 temporary 3
set_bytes 4 b
dispatch 1 2 3 of 32 2 1
"""
WANT = f"""\
add_temporary temporary 3 of 12
compile deltamoe digest first<float, 3> safely
// header
template [[host_name("first_float_3")]] [[kernel]] decltype(first<float, 3>) first<float, 3>;
{FIRST}\
compile deltamoe digest second safely
// header
template [[host_name("second")]] [[kernel]] decltype(second) second;
kernel second
set_output_array 0 temporary 3
set_output_array 1 result
dispatch 7 1 1 of 64 1 1
{FIRST}\
family 9
[deltamoe] second is planned with 65 threads a threadgroup, and this GPU can give it 64.
compile deltamoe digest in_place safely
// header
template [[host_name("in_place")]] [[kernel]] decltype(in_place) in_place;
kernel in_place
set_buffer 0 donor + 0
set_buffer 1 donor + 0
set_output_array 2 temporary 5
dispatch 1 1 1 of 32 1 1
own memory
kernel in_place
set_buffer 0 donor + 0
set_buffer 1 donor + 0
set_output_array 2 donor
dispatch 1 1 1 of 32 1 1
in place
as it is
as it is
Contiguous
Contiguous
status 1
"""


@pytest.mark.skipif(sys.platform != "linux", reason="links as on Linux")
@pytest.mark.skipif(COMPILER is None or MLX is None, reason="no C++ compiler, or no headers of MLX")
def test_every_call(tmp_path: Path) -> None:
    binary = tmp_path / "encode_check"
    files = ["tests/metal/encode_check.cpp", "csrc/metal/encode.cpp", "csrc/metal/sources.cpp", "csrc/ops/op.cpp"]
    sources = [ROOT / file for file in files]
    folders = [ROOT / "tests/metal/recorder", ROOT / "csrc", f"{MLX}/include"]
    includes = [f"-I{folder}" for folder in folders]
    libraries = [f"-L{MLX}/lib", "-lmlx", f"-Wl,-rpath,{MLX}/lib"]
    subprocess.run([COMPILER, "-std=c++20", *includes, *sources, *libraries, "-o", binary], check=True)
    done = subprocess.run([binary], check=True, capture_output=True, text=True)
    assert done.stdout == WANT
