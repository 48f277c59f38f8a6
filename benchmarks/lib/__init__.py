"""What the benchmarks share: arguments, measurements in processes of their own, the machine in
words, dated reports.
"""
