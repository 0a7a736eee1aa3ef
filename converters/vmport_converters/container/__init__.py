"""From a root filesystem to a container image without a kernel."""
