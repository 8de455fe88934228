"""Record to row: mapping documents, the expressions in them, and the fields they must fit.

document.py   load a document, apply it, what comes out
fields.py     field lists of sources and destinations, rows checked against them
functions/    what expressions may call
cel/          the expression language
"""
