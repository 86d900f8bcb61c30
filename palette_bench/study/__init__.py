"""Human studies: the plan, the votes, who is left out, and the fool rate."""
