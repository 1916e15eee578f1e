"""From triples to a text: WebNLG and DART."""
