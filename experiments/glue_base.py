"""Table 2 on an encoder of RoBERTa base's size: three methods on the tasks that a machine without a GPU can train it on."""

from dataclasses import replace

from experiments import glue

TABLE = replace(glue.TABLE, title="GLUE at RoBERTa base's size", paper={"roberta_base": "RoBERTa base"})
