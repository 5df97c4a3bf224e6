"""Schedule-Free Prodigy."""
