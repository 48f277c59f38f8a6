"""Exact and approximate indexes, codecs and quantization. Knows arrays, not models."""
