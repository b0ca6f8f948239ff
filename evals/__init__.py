"""Recorded incidents, the fault lab that makes them, scoring and benchmarks."""
