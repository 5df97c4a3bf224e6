"""NAdamW or Nesterov SGD."""
