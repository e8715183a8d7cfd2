"""DVC from outside: its graph, stages that run concurrently, their costs and their progress."""
