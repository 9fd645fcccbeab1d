"""Rendering: a report as a table for a terminal, as CSV, as JSON, or as one page of HTML.

Rules
  - A rendering holds only what the report holds: no clock, no number that is not in the report.
  - A hidden number looks alike wherever it stands; a rendering never writes it as a number.
  - HTML is one file: no script, nothing from elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from stoplist.tools.output.report_data import as_csv, as_json
from stoplist.tools.output.report_html import as_html
from stoplist.tools.output.report_table import as_table
from stoplist.tools.reports.report import Report

FORMATS: Mapping[str, Callable[[Report], bytes]] = {
    "table": as_table,
    "csv": as_csv,
    "json": as_json,
    "html": as_html,
}
