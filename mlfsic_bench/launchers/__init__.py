"""Where planned runs are done: in this process, in several, or on a SLURM cluster."""
