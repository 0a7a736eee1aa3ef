"""Encrypted sectors and the keys to them, for every place that has such: disks, images, volumes."""
