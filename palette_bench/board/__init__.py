"""Scorecard reports, comparisons of cards, and the leaderboard."""
