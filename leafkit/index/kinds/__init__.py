"""Kinds of vector index, one file each, behind the interface of ``kind.IndexKind``; ``plan.KINDS``
lists them.
"""
