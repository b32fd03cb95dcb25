"""The retrieval index of a voice: built from its dataset, found beside it, and searched."""
