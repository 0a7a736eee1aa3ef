"""From descriptor to descriptor, and what each hypervisor accepts."""
