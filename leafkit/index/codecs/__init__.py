"""How vectors are written down, at several precisions, each fitted on documents alone; ``fit.py``
makes them.
"""
