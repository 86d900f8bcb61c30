"""Protocols, preprocessing, degradations, canaries."""
