"""Pages: the scorecard report and the leaderboard."""
