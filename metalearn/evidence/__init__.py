"""Evidence about a classifier from its support set alone: answers to examples that are left out of the adaptation."""
