"""Amos."""
