"""Speech recognition with recurrent layers."""
