"""From records to tables and figures: statistics, columns, captions, writers and one presenter. No torch."""
