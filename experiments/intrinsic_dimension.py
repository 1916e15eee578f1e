"""Aghajanyan et al. 2020: the score against d random directions, and d90, with and without pre-training."""

from lora_repro.report.views.dimension import Dimensions

TABLE = Dimensions(
    title="Intrinsic dimension",
    remarks=(
        "Every tensor but the tables of embeddings moves, the new head's too; nothing else is trained. One projection for all "
        "seeds, a learning rate for each d where it was searched.",
        "d is searched by halving: d90 is known to the values that were run beside it.",
    ),
)
