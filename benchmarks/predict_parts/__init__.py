"""What ``benchmarks/predict.py`` is made of: cases and their spaces, cells, runs, other fits."""
