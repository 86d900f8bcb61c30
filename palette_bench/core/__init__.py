"""Errors, records, digests, safe writing."""
