"""The machine, independent of the experiment: files, locks, processes, devices, progress."""
