"""conf/ as Hydra reads it, and objects built from it.

Import `compose.compose`, `compose.resolved` and `compose.build`; `signature` names a run, `paths` says where things lie.
To add a setting, give a constructor an argument with a default that renames nothing; conf/ has its value.
Never change what a signature covers: every published run would lose its name.
"""
