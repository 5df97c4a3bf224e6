"""fastMRI: images from a quarter of their k-space, with a U-Net. Facts, sources and targets: README.md beside it."""
