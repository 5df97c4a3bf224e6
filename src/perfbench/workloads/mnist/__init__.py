"""MNIST: handwritten digits with a small MLP; checks an installation in seconds. Facts and targets: README.md."""
