"""Data and weights onto this machine, by command: from where conf/ says, checked against what it says of them."""
