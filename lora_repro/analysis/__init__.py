"""Numbers about trained updates: arrays in, arrays out.

Import `spectra` and `overlaps` for subspaces (numpy only), `probe` to watch a run's updates, `probed_run` to read what it kept.
To add a measurement, write a module of functions on arrays; what shows it belongs to report/.
Never change the shapes and names of published arrays (`probe`): results/ holds files of them.
"""
