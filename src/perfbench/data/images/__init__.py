"""Labelled photographs in class folders or the public ImageNet archives: packing, augmentation, loading."""
