"""What other programs read in the VMDKs that convert writes of a real disk: `make readers`."""
