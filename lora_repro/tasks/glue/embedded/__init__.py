"""Generated sentence tasks, written for this project: `sets` are GLUE-shaped, `inference` is MNLI-shaped."""
