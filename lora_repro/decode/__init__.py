"""The paper's beam search (`beam`), batched.

Import `beam.BeamSearch`; `cache` and `forward` hold the model's side, `selection` the choice of hypotheses.
To add a setting of the search, give `BeamSearch` a field whose default renames nothing; conf/decode has its value.
Never change an output at published settings: published scores are of these texts.
"""
