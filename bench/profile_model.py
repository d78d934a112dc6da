"""Where a patched model's time goes, by library and function: ``python bench/profile_model.py MODEL [decode|prefill]``.

Samples this process with Linux ``perf`` (Debian: ``linux-perf``) while it decodes greedily, sampling included as
mlx-lm does it, or runs prefills of 128 tokens. Threads that wait spin for a while, so idle time shows up as ours.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlx.core as mx
import mlx_lm
from mlx_lm.models.cache import make_prompt_cache

import deltamoe

SECONDS = 10.0
PROMPT = 128


def main() -> None:
    """Run the profile and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a model directory, such as deltamoe demo --model-dir leaves behind")
    parser.add_argument("phase", nargs="?", choices=["decode", "prefill"], default="decode")
    arguments = parser.parse_args()
    if shutil.which("perf") is None:
        sys.exit("perf is missing. Install it (Debian: apt-get install linux-perf) and run this again.")

    model = mlx_lm.load(arguments.model)[0]
    deltamoe.patch()
    prompt = mx.arange(PROMPT)[None]

    def prefill() -> list[object]:
        cache = make_prompt_cache(model)
        model(prompt, cache=cache)
        mx.eval([entry.state for entry in cache])
        return cache

    cache, token = prefill(), mx.array([[0]])

    def decode() -> None:
        nonlocal token
        logits = model(token, cache=cache)[:, -1, :]
        logprobs = logits - mx.logsumexp(logits, keepdims=True)
        token = mx.argmax(logprobs, axis=-1)[None]
        mx.eval(token)

    step = decode if arguments.phase == "decode" else prefill
    step()
    with tempfile.TemporaryDirectory() as folder:
        data = str(Path(folder, "perf.data"))
        record = ["perf", "record", "--event=cpu-clock", f"--pid={os.getpid()}", f"--output={data}"]
        recorder = subprocess.Popen(
            [*record, "sleep", str(SECONDS)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        start, steps = time.perf_counter(), 0
        while recorder.poll() is None:
            step()
            steps += 1
        print(f"{arguments.phase}: {steps} steps, {(time.perf_counter() - start) / steps * 1e3:.1f} ms each")
        for keys, lines in ("dso", 8), ("dso,symbol", 24):
            command = ["perf", "report", f"--input={data}", "--stdio", f"--sort={keys}", "--percent-limit=0.5"]
            report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows = [line[:150].rstrip() for line in report.splitlines() if line and not line.startswith("#")]
            print(f"\nby {keys}:", *rows[:lines], sep="\n")


if __name__ == "__main__":
    main()
