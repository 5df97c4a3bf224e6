"""ImageNet with ResNet-50: photographs of 1,000 classes. Facts, sources and targets: README.md beside this file."""
