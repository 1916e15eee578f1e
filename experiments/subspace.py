"""Figures 3, 4, 6, 7 and 8 of the paper: which directions the updates of two ranks, of two seeds and of W itself share."""

from lora_repro.report.subjects.subspaces import Subspaces

TABLE = Subspaces(title="Shared directions")
