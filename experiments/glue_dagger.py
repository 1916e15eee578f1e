"""Table 2 of the paper, the rows with a dagger: GLUE in the restricted setup of Houlsby et al., never started from MNLI."""

from dataclasses import replace

from experiments import glue

TABLE = replace(glue.TABLE, title="GLUE, restricted setup", paper={"roberta_large": "RoBERTa large"})
