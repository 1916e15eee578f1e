"""Table 7 of the paper: how much of W lies in the directions of its update, by layer and over the training."""

from lora_repro.report.subjects.update_norms import UpdateNorms

TABLE = UpdateNorms(title="Update against weight")
