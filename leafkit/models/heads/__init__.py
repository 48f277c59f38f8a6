"""What maps pooled hidden states onto vectors, where it is more than one linear map."""
