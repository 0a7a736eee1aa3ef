"""qemu-img as an engine: told everything, confined to the files of the disk, never trusted."""
