"""ImageNet with a vision transformer: photographs of 1,000 classes. Facts and targets: README.md beside this file."""
