"""The command line: one file per command or group; heavy modules are imported only when they are needed."""
