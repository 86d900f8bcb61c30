"""Human studies: plan, trials, votes, exclusions, and the fool rate."""
