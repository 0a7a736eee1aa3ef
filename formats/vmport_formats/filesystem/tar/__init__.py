"""Tar archives, read and written: ustar, PAX, and what GNU tar, star and libarchive add."""
