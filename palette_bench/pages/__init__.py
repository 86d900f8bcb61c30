"""What pages are made of: rendering, text, plots, images and score cells."""
