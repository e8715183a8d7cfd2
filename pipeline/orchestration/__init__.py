"""DVC from outside: its graph, stages run side by side, what they cost and how far they are."""
