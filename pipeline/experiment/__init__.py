"""The requested experiment: parameters, the grid of runs and scores, targets, paths, the paper's numbers."""
