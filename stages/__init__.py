"""The DVC stages, one short module each: read parameters, open inputs, call the method, write whole outputs."""
