"""Table 1, Figure 5 and the sizes of Section 4.2 of the paper: what each method costs in time, memory and disk."""

from lora_repro.report.subjects.costs import Costs

TABLE = Costs()
