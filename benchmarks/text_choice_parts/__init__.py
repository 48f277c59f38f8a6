"""What ``benchmarks/text_choice.py`` is made of: orders of texts, and heads that learn them."""
