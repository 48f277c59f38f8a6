"""Training a student from cached teacher vectors."""
