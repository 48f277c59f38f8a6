"""What benchmarks/compatibility.py asks: tools, what each has to open, and their environments."""
