"""The training loop (`loop`) and what surrounds it: optimizer, precision, checkpoints, ranks, what an unfinished run keeps."""
