"""How results are written: text for a terminal, HTML in one file, and the drawing of a chart.

The words and numbers that several results share are here, so that they read alike.
"""
