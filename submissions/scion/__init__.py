"""Scion."""
