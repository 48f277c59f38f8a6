"""Texts with their vectors, out of the places where they lie, as the files that
``leafkit.embedders.precomputed`` reads.
"""
