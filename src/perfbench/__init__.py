"""perfbench: measure how fast a training algorithm trains."""

__version__ = "0.1.0"
