"""What `make torture` does, a kind of fault a file."""
