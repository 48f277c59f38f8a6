"""Kinds of vector index, one file each, behind the interface of ``kind.IndexKind``. They are listed
in ``registry.KINDS``.
"""
