"""perfbench for Python and notebooks. ``import perfbench`` has its functions, each loaded when first used."""
