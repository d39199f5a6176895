"""What decides: synchronous, pure; no clock, no I/O."""
