"""WikiSQL: questions to SQL."""
