"""What a run leaves: its record and name, its provenance, atomically written files, the hashes of published files."""
