"""What everything else stands on: errors, records, digests, randomness, safe writing."""
