"""Whatever gives vectors: transformers, lookup tables, ONNX graphs, endpoints, vectors computed
elsewhere.
"""
