"""Grammar, parser and statements of the SQL dialect. Knows nothing of execution."""
