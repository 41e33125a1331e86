"""Writes the pages of the documentation that are made from code. Needs nothing but Hippo itself.

python -m docs.generate            writes docs/lifecycles.md and its drawings
python -m docs.generate.site DIR   writes all that the site is built from into DIR (make docs)
"""
