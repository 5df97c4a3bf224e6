"""NAdamW averaged exponentially."""
