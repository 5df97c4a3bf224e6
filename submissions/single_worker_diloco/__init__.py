"""Single-worker DiLoCo."""
