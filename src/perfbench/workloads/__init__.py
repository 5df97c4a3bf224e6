"""One folder per workload family. Nobody imports them by name: ``registry`` finds them by folder."""
