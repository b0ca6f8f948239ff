"""Alert intake: one parser per source, then the same way for all."""
