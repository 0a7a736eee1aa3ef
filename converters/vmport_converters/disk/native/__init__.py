"""Our own engine: from any disk that we read to an image that we compose, without qemu-img."""
