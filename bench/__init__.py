"""Benchmarks: how fast each kernel is, beside mlx-lm's way and the machine's limits. See docs/performance.md."""
