"""Pretrained (or random) backbones: from what a yaml names (`spec`) to a frozen model with its tokenizer (`model`).

Import `spec.BackboneSpec`, `model.Backbone`, and `weights` and `addressed` for a model's matrices by role.
To add a backbone, write conf/backbone/x.yaml; a new architecture is an entry of `architecture.ARCHITECTURES`.
Never change what a published yaml loads: its sha256 names the runs.
"""
