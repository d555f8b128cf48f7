"""Token classification: the words of a text, their features, and the spans that tagged words make."""
