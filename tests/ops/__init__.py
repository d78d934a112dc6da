"""Tests of the ops: every op, on every back end, against its float64 oracle."""
