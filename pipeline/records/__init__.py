"""Shards → batches: schema, manifest, boxes, class balance, input. Knows no network and no device."""
