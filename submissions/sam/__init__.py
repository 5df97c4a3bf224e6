"""SAM over AdamW."""
