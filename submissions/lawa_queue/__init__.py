"""NAdamW averaged over a queue."""
