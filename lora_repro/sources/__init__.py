"""Fetching data and weights, by command: from the addresses in conf/, checked against the hashes or commits there."""
