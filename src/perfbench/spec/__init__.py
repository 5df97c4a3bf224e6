"""Frozen facts: what is compared, under which rules, and what came out. No behaviour, no torch."""
