"""Weighted Schedule-Free AdamW."""
