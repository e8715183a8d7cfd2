"""The command line: a file a command or group, nothing heavy imported before it is needed."""
