"""Distributed Shampoo."""
