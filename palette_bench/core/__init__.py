"""Foundations: errors, records, digests, intervals, random streams, and safe reading and writing of files."""
