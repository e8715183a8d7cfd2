"""Tools outside the graph that work like stages: check published nets, export, measure speed, show the data."""
