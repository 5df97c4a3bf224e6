"""CASPR, adaptive variant."""
