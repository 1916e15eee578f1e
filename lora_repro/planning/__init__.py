"""Which runs a command line or an experiment asks for, and the command that makes a recorded one again."""
