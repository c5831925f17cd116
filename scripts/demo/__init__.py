"""`make demo`: the story of one payment, played without a hand."""
