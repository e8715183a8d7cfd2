"""Image input: sources, their preparation as shards, the manifest and the facts."""
