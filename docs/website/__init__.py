"""The site of the documentation: `PYTHONPATH=docs python -m website BUILD`, which `make docs` runs.

Guides are the Markdown pages of this repository, as they are. The reference is made here from the tables that
the program itself reads, so a new row appears by itself. Most modules have a function `pages` that returns
text by path.
"""
