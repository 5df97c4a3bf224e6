"""The competition's self-tuning baseline."""
