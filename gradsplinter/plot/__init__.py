"""Results → figures, and nothing else."""
