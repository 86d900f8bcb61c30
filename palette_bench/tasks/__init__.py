"""What is asked: protocols, preprocessing, degradations, and the canary that guards them."""
