"""The six-case study: data, training, records, and the pages drawn from them."""
