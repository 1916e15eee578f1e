"""The paper's beam search (`beam`), batched."""
