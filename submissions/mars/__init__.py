"""MARS: variance-reduced gradients."""
