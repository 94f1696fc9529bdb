"""What is kept on disk: records of runs, the units of unfinished ones, and locks."""
