"""Building blocks of HTML pages: rendering, text, plots, images and score cells."""
