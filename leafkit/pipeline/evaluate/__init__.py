"""Measuring a pair: benchmark, inheritance, diagnosis, contamination."""
