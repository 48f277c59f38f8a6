"""A pair as what other libraries call an embedding model: each has its queries embedded by the
student with the query prompt, its documents by the teacher with the document prompt.
"""
