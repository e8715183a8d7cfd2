"""What is asked for: parameters, the grid of runs and scores, targets, paths, the paper's numbers."""
