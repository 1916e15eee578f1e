"""Timings beside a peer that does the same work, one file per pair. Peers are imported where they run."""
