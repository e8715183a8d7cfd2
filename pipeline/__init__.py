"""The experiment as data: parameters, the grid, paths, sources, shards, provenance."""
