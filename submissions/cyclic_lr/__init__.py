"""NAdamW under a cyclic learning rate."""
