"""What ``benchmarks/capacity.py`` is made of: ways to read more than the states, and how they are
solved.
"""
