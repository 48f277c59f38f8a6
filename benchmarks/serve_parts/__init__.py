"""What ``benchmarks/serve.py`` is made of: the bare path, servers, memory, searches."""
