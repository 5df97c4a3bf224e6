"""WMT: German to English translation with a Transformer. Facts, sources and targets: README.md beside this file."""
