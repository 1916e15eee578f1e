"""What is asked of a model, one file a kind of task: how an example becomes tokens, its loss, its validation, its answer."""
