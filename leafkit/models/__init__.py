"""Encoders: backbone -> pooling -> projection -> normalise, and how they lie on disk. Knows no
data.
"""
