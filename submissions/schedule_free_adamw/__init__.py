"""Schedule-Free AdamW."""
