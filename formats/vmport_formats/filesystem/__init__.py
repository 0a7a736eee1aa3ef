"""Filesystem trees: what a root filesystem holds, whatever it is read from."""
