"""The rules of `vmport_converters.machine.validate`, by dialect, and the facts they go by."""
