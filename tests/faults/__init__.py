"""What becomes of a destination when a conversion meets every fault there is: `make faults`."""
