"""Text and vectors at rest: records, sources, batches and the vector store. Knows no models."""
