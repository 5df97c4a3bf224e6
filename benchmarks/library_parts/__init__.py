"""Parts of workloads that a library has too, on one input each; measured by ``benchmarks/libraries.py``."""
