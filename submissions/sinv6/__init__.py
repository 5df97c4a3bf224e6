"""sinv6: a learned learning rate."""
