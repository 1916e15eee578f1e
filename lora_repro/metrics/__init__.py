"""Metrics: pure functions on strings and numbers (no torch).

nlg: BLEU, NIST, METEOR, ROUGE-L and CIDEr as the official E2E scorer computes them; slots: slot error rate of
E2E outputs; glue: accuracy, F1, Matthews, Pearson and Spearman; sql: logical form and execution
accuracy of WikiSQL; rouge: ROUGE of two tools; bootstrap: paired bootstrap intervals from per-input statistics.
"""
