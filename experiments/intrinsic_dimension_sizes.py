"""Aghajanyan et al. 2020, Figure 3: d90 against the size of the model."""

from dataclasses import replace

from experiments import intrinsic_dimension

TABLE = replace(intrinsic_dimension.TABLE, title="Intrinsic dimension by size of the model")
