"""Input helpers that know no workload: sampling order, prefetch, prepared-data manifests."""
