"""Criteo: click-through rate with a small DLRM. Facts, sources and targets: README.md beside this file."""
