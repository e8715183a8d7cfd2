"""The long commands of stages as jobs of a cluster, while DVC stays on one machine (docs/cluster.md)."""
