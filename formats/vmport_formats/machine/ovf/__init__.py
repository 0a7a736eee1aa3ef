"""OVF, the open virtualization format: envelopes read with positions, and written."""
