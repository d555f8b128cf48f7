"""Evaluation of a model on episodes: figures of one episode, intervals, and the report over many."""
