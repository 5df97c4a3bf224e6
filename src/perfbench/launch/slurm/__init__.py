"""Slurm: a sweep becomes job arrays, an element runs one trial, and nothing stays alive where it was submitted."""
