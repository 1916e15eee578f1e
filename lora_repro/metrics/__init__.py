"""Metrics: pure functions on strings and numbers (no torch).

- nlg: BLEU, NIST, METEOR, ROUGE-L and CIDEr as the official E2E scorer computes them.
- slots: slot error rate of E2E outputs.
- webnlg: BLEU, METEOR and TER (ter) of WebNLG and DART, by the scripts of the paper or of the data sets.
- rouge: ROUGE of two tools, for SAMSum.
- sql: logical form and execution accuracy of WikiSQL.
- glue: accuracy, F1, Matthews, Pearson and Spearman.
- corpus: each corpus score from sums of per-input statistics.

To add a metric, write a module with a function of outputs and references; the task that it scores calls it.
Never change a number of a published metric: `verify --all` scores results/ again.
"""
