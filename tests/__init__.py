"""The tests: those of a package stand together in a folder of its name; tests/support has what they share."""
