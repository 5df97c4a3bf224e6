"""PSGD with Kronecker-factored preconditioners."""
