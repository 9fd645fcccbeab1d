"""The output of reports, rollouts and trials: as a table, CSV, JSON, or one page of HTML with its chart.

Each format only writes what a result holds. The words around the numbers are shared, so that all formats read alike.
"""
