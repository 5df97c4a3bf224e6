"""Schedule-Free AdamW, second version, at one setting for every workload."""
