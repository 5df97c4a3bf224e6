"""Schedule-Free+."""
