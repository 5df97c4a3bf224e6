"""LAMB."""
