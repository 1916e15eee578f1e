"""One self-contained HTML page per profile, built from what is published: tables, figures, runs, commands, examples."""
