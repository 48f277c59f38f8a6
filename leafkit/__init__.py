"""leafkit: distil a text-embedding teacher into small students that live in the teacher's own
vector space.
"""

__version__ = "0.1.0"
