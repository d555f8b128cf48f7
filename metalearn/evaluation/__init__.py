"""What a model is worth on episodes: figures of one, intervals, and the report over many."""
