"""What a run leaves: its record, its provenance, its learning-rate trials, the hashes of published files.

Import `record.find` and `record.load_records` to read, `manifest.changing` to write in results/, `rates` for learning rates.
To record something new, add a key below `measured` or `where`: readers take what they know.
Never change a key that published records have, nor read or write results/ other than through `manifest`.
"""
