"""Disk images: metadata, block maps and content of each format."""
