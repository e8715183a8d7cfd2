"""From posteriors to values: scores, tables, and where numbers come from."""
