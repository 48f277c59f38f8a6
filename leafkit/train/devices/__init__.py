"""What training needs of a device beside torch: Lightning's parts for it, and collectives."""
