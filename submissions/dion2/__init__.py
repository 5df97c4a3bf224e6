"""Dion2."""
