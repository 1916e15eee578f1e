"""Trained models to and from other formats: peft adapters, plain transformers checkpoints, the authors' adapter.

Import `open_checkpoint.open_checkpoint` to answer with any of them, `export.export` to write one, `lora_files.read` for factors.
To add a format, write a module that writes and reads it, and call it from `export` and `open_checkpoint`.
Never load but by safetensors or weights only: a checkpoint may be of unknown origin.
"""
