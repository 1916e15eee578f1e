"""Exporting trained models to, and reading them from, other formats: peft adapters and plain transformers checkpoints."""
