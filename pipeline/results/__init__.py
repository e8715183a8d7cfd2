"""From posteriors to values: scores, tables, and the provenance of numbers."""
