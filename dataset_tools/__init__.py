"""Raw competition files in, TFRecord shards out; and the competition's CSV at the other end."""
