"""Language modelling: next-token prediction with a decoder-only Transformer. Facts, sources and targets: README.md."""
