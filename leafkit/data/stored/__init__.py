"""What is kept of texts beside vector stores, and views of it: token ids, rows that other stores
hold, first dimensions.
"""
