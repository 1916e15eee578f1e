"""The claims of the paper, each with a test fixed before its result is read, and what our records say of it."""
