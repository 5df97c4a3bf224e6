"""Records to numbers. Pure functions, no torch."""
