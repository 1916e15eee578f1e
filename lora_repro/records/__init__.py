"""What a run leaves: its record and name, where it happened, files whole or not at all, the hashes of what is published."""
