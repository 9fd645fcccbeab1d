"""The output of results: text for a terminal, HTML in one file, and the drawing of a chart.

The package holds the words and numbers that several results share, so that they read alike.
"""
