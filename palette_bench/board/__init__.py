"""Reports, comparisons and leaderboards."""
