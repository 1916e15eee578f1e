"""From records to tables and figures: what is declared in conf/ beside what was measured and what the paper prints. No torch."""
