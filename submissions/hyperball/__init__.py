"""Hyperball: matrices that stay on a sphere."""
