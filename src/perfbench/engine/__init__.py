"""One trial in one process group: the clock, the loop, evaluation, compilation, checkpoints."""
