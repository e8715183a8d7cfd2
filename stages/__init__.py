"""One short module a DVC stage: read parameters, open inputs, call the method, write outputs whole."""
