"""What a root filesystem says of itself."""
