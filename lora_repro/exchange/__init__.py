"""Trained models in the formats of other libraries: peft's adapters and plain transformers checkpoints, out and in."""
