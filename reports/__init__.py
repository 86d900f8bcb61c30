"""The record and its pages: scorecards, templates, assets; data, no code."""
