"""Schedule-Free AdamW that tunes itself."""
