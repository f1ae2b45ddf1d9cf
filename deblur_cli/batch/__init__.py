"""A folder of photos becomes a list of jobs, and gets done. Knows no torch and no console."""
