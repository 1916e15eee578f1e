"""What `make bench` times, one file per benchmark, most of them beside a peer that does the same work."""
