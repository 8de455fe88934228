"""Record to row: mapping documents, the expressions in them, and the fields they must fit."""
