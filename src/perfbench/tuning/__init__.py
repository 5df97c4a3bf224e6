"""Search spaces to hyperparameter points, the same on any machine."""
