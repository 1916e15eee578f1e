"""Aghajanyan et al. 2020: the score against d random directions, and d90, with and without pre-training."""

from lora_repro.report.subjects.intrinsic_dimension import Dimensions

TABLE = Dimensions(
    title="Intrinsic dimension",
    remarks=(
        "Only the d coordinates are trained. They move every tensor except the embedding tables, the new head included. All "
        "seeds share one random projection. Where the learning rate was searched, each d has its own.",
        "d is searched by bisection: the true d90 is larger than 'largest d too small' and at most the d90 shown.",
    ),
)
