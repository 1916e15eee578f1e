"""E2E NLG: restaurants described."""
