"""Tokens per second over time: ``deltamoe track --help``."""
