"""Schedule-Free AdamW, second version."""
