"""Models in the form that serves them."""
