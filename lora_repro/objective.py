"""The training objective: label-smoothed cross-entropy on completion tokens and EOS (paper, Table 11; Section 2).

For logits z over V words and target y, with smoothing eps:  (1 - eps) * -log p(y) + eps * (1/V) * sum_v -log p(v).
The smoothing mass is spread over the full vocabulary, target included, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch.nn import functional as F

from lora_repro.backbone import Backbone
from lora_repro.data import Batch


def summed_loss(backbone: Backbone, batch: Batch, label_smoothing: float) -> tuple[torch.Tensor, int]:
    """Sum of the loss over scored positions, and their number.

    Only scored positions (about 40 % of an E2E sequence) go through the LM head, which is a fifth of SmolLM2's FLOPs and
    nearly all of its activation memory: N x 49,152 floats.
    """
    scored = batch.targets != -100  # (B, T)
    virtual = {"virtual": batch.virtual} if bool((batch.virtual >= 0).any()) else {}
    hidden = backbone.decoder(
        input_ids=batch.ids, attention_mask=batch.attention, use_cache=False, **virtual
    ).last_hidden_state  # (B, T, d)
    logits = backbone.head.module(hidden[scored])  # (N, V)
    loss = F.cross_entropy(logits.float(), batch.targets[scored], label_smoothing=label_smoothing, reduction="sum")
    return loss, int(scored.sum())


@torch.no_grad()
def validation_loss(backbone: Backbone, batches: Iterable[Batch], device: torch.device) -> float:
    """Mean negative log-likelihood per scored token, nats, without smoothing.

    A mean over all tokens; the authors average the per-batch means, which weighs short batches more.
    """
    total, count = 0.0, 0
    for batch in batches:
        loss, n = summed_loss(backbone, batch.to(device), 0.0)
        total, count = total + float(loss), count + n
    return total / count
