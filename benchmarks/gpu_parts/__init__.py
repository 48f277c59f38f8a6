"""What benchmarks/gpu.py measures, a module per part; each part runs in a process of its own."""
