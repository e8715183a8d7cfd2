"""The machine, nothing of the experiment: files, locks, processes, devices, progress."""
