"""Generalised primal averaging over AdamW."""
