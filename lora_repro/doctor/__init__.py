"""Is this machine ready? The checks, and the command that shows them."""
