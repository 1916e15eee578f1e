"""One self-contained HTML page a profile, built from what is published: tables, figures, runs, commands, examples."""
