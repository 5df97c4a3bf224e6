"""NAdamW with a root of any power."""
