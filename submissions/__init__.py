"""Training algorithms: one folder each, with its data in ``configs/submission/<name>.yaml``."""
