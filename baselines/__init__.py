"""The contestants: reference methods that meet the judge through files only."""
