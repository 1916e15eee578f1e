"""Fetching data and weights, by command: from the addresses in conf/, checked against the hashes or commits there.

Import `data.fetch` and `data.known`; `hub` asks the model hub, `download` resumes files.
To add a source of data, write conf/source/x.yaml.
Never take a file without its hash or commit.
"""
