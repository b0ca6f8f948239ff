"""Benchmarks: ratios measured in the same run, never absolute promises."""
