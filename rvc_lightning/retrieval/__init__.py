"""Build, find and search the retrieval index of a voice."""
