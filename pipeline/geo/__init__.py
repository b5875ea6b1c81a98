"""Places and dates: points, records, the network, its losses and its training. Knows no pictures."""
