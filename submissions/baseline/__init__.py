"""The competition's baseline: NAdamW."""
