"""Measuring: the retrieval benchmark, metrics, intervals, significance, tasks, approximate indexes,
inheritance, diagnosis, mteb.
"""
