"""Speech recognition with a Conformer encoder."""
