"""What acts: all awaits of the engine live here."""
