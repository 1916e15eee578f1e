"""Whether this machine is ready: the checks, and the command that shows them."""
