"""How results are shown: tables, charts and pages, from numbers on disk alone."""
