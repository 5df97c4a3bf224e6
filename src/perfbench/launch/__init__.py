"""From a request to running processes: plan, worker, local machine, Slurm."""
