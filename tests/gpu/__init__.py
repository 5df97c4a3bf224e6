"""Tests that need a GPU: they skip, and say so, where there is none."""
