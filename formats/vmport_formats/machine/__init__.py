"""Machine descriptors: each dialect to and from one model, with a ledger of every loss."""
