"""How often a verdict finds a planted slowdown of 5%, and how often it finds one that is not there.

``python -m deltamoe.measure.power`` prints the table of docs/tracking.md, on made-up samples.
"""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from deltamoe.measure.statistics import verdict

TRIALS = 200
PLANTED = 0.95
SAMPLES = (5, 10, 20, 30)
SCATTERS = (0.01, 0.02, 0.03, 0.05)


def losses(speed: float, samples: int, scatter: float, seed: int = 0) -> int:
    """In how many of :data:`TRIALS` comparisons a loss is confirmed, where head has this speed."""
    rng = np.random.default_rng(seed)
    return sum(
        verdict(rng.lognormal(0, scatter, samples), speed * rng.lognormal(0, scatter, samples)).is_loss
        for _ in range(TRIALS)
    )


def main() -> None:
    """Print the table: found, and in brackets false alarms, of :data:`TRIALS` each."""
    table = Table("samples", *(f"cv {scatter:.0%}" for scatter in SCATTERS), title=f"losses in {TRIALS} comparisons")
    for samples in SAMPLES:
        found = [(losses(PLANTED, samples, scatter), losses(1.0, samples, scatter)) for scatter in SCATTERS]
        table.add_row(str(samples), *(f"{planted} ({false})" for planted, false in found))
    Console().print(table)


if __name__ == "__main__":
    main()
