"""What is fitted before a training: the head, and a table of token vectors beside it."""
