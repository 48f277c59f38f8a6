"""What a student inherits from its teacher: Matryoshka truncation and quantisation. Knows arrays,
not models.
"""
