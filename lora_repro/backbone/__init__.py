"""Pretrained (or random) backbones: from what a yaml names (`spec`) to a frozen model with its tokenizer (`model`)."""
