"""Cautious NAdamW."""
