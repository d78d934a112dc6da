"""Tests of deltamoe."""
