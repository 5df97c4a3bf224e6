"""OGBG: molecular properties with a graph network. Facts, sources and targets: README.md beside this file."""
