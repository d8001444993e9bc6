"""What users bring: tables, pictures and vectors, as rows of named columns."""
