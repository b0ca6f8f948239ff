"""What can be seen of Redis, and done to it. Knows nothing of language models."""
