"""What platforms allow: figures as data, buckets as pure state, one limiter an account."""
