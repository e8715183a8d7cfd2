"""Images in: sources, their preparation as shards, the manifest and the facts."""
