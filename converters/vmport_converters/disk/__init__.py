"""From disk to disk."""
