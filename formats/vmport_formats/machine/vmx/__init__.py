"""VMware's VMX: its text, and machines written in it."""
