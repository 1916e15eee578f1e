"""What is measured beside a peer that does the same work, one file a pair. Peers are imported where they run."""
