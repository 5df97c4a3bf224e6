"""NAdamW, three points in sequence."""
